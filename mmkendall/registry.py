"""Our nodes in mmengine's registry tree.

``type='mmkendall.KendallRankLoss'`` in any config finds its class by itself: mmengine imports this
module when it reads the scope, and a node imports its ``locations`` when it is first asked.
"""

from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import FUNCTIONS as MMENGINE_FUNCTIONS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import VISUALIZERS as MMENGINE_VISUALIZERS
from mmengine.registry import Registry

MODELS = Registry('model', parent=MMENGINE_MODELS, locations=['mmkendall.models'])
DATASETS = Registry('dataset', parent=MMENGINE_DATASETS, locations=['mmkendall.datasets'])
DATA_SAMPLERS = Registry(
    'data sampler', parent=MMENGINE_DATA_SAMPLERS, locations=['mmkendall.datasets']
)
FUNCTIONS = Registry('function', parent=MMENGINE_FUNCTIONS, locations=['mmkendall.datasets'])
TRANSFORMS = Registry('transform', parent=MMENGINE_TRANSFORMS, locations=['mmkendall.datasets'])
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, locations=['mmkendall.engine'])
LOOPS = Registry('loop', parent=MMENGINE_LOOPS, locations=['mmkendall.engine'])
METRICS = Registry('metric', parent=MMENGINE_METRICS, locations=['mmkendall.evaluation'])
VISUALIZERS = Registry(
    'visualizer', parent=MMENGINE_VISUALIZERS, locations=['mmkendall.visualization']
)

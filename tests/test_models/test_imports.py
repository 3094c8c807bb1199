from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
for name in ('mmrazor', 'mmpretrain', 'mmcv', 'torchvision'):
    sys.modules[name] = None  # An import raises ImportError.
from mmengine.registry import MODELS
import mmkendall.models
for name in ('KendallRankLoss', 'KDLoss', 'DKDLoss', 'CTKDLoss', 'MLKDLoss', 'PLDLoss',
             'ListMLELoss', 'WTTMLoss', 'BiLDLoss', 'PearsonLoss', 'LogitStandardization',
             'OrderScores'):
    MODELS.build(dict(type=f'mmkendall.{name}'))
MODELS.build(dict(type='mmkendall.SelectClasses', classes=[1]))
for name, missing in (('RankAugmentedDistiller', 'mmrazor'),
                      ('MultiViewDataPreprocessor', 'mmpretrain')):
    try:
        MODELS.build(dict(type=f'mmkendall.{name}'))
    except ImportError as error:
        assert missing in str(error), error
    else:
        raise AssertionError(f'{name} was built without {missing}')
"""


def test_losses_and_connectors_need_mmengine_alone():
    done = subprocess.run(
        [sys.executable, '-c', CODE], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

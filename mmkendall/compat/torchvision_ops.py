"""PyPI's torchvision is built for CUDA; beside a CPU build of torch its operators don't load.

``import torchvision`` then dies with "operator torchvision::nms does not exist", because it
registers fake kernels for operators that have no schema. With the schemas defined, the Python
parts that mmpretrain needs work; the operators themselves stay unusable. Until torchvision guards
those registrations.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

import torch

BREAKS = 'import torchvision fails: its compiled operators do not fit this build of torch'
PACKAGES = ('torchvision',)

SCHEMAS = {
    'nms': '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor',
    'qnms': '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor',
}
# The schemas live as long as the library object does.
_libraries: list[torch.library.Library] = []


def is_broken() -> bool:
    if 'torchvision' in sys.modules or hasattr(torch.ops.torchvision, 'nms'):
        return False
    folder = Path(find_spec('torchvision').submodule_search_locations[0])
    for extension in (*folder.glob('_C*.so'), *folder.glob('_C*.pyd')):
        try:
            torch.ops.load_library(str(extension))
        except OSError:
            continue
    return not hasattr(torch.ops.torchvision, 'nms')


def mend() -> None:
    library = torch.library.Library('torchvision', 'DEF')
    for name, schema in SCHEMAS.items():
        library.define(name + schema)
    _libraries.append(library)

"""mmrazor's quantization package imports parts of torch that torch 2 removed.

``import mmrazor.models`` then dies with "`torch>=1.13` is not installed properly", and with it all
of distillation. While mmrazor is imported it is told that torch is older than 1.13, a case that it
has a path for: quantization is off, distillation is whole. Until mmrazor has a new release.
"""

import sys
import warnings

import torch

BREAKS = 'import mmrazor.models fails: its quantization needs parts that torch removed'
PACKAGES = ('mmrazor', 'mmengine', 'mmcv', 'mmpretrain')


def is_broken() -> bool:
    if 'mmrazor.models' in sys.modules or torch.__version__.startswith('1.'):
        return False
    from torch.ao.quantization import fuser_method_mappings

    return not hasattr(fuser_method_mappings, 'reverse2')


def mend() -> None:
    import mmrazor

    digit_version = mmrazor.digit_version

    def older_torch(version: str) -> tuple:
        return digit_version('1.12.0' if version == torch.__version__ else version)

    mmrazor.digit_version = older_torch
    try:
        with warnings.catch_warnings():
            # Of an operator for detection transformers, which distillation has no use for.
            warnings.filterwarnings('ignore', message='Fail to import ``MultiScaleDeformable')
            import mmrazor.models
    finally:
        # Code that asks for the version later, the fx tracer for one, must hear the truth.
        for name, module in list(sys.modules.items()):
            if name.split('.')[0] == 'mmrazor' and (
                getattr(module, 'digit_version', None) is older_torch
            ):
                module.digit_version = digit_version

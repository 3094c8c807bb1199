"""mmengine's launchers call ``torch.cuda.set_device`` whatever the backend is.

On a machine without an accelerator that ends a gloo run before it starts. Until mmengine asks
whether there is a device to set.
"""

import functools

import torch

BREAKS = 'distributed training on a CPU fails: mmengine sets a CUDA device that is not there'
PACKAGES = ('mmengine',)

_mended = False


def is_broken() -> bool:
    from mmengine.device import get_device

    return get_device() == 'cpu' and not _mended


def mend() -> None:
    global _mended
    set_device = torch.cuda.set_device

    @functools.wraps(set_device)
    def set_device_if_any(device) -> None:
        if torch.cuda.is_available():
            set_device(device)

    torch.cuda.set_device = set_device_if_any
    _mended = True

"""mmengine's distributed training takes it for granted that there is an accelerator.

Its launchers call ``torch.cuda.set_device`` and its runner hands ``device_ids`` to
DistributedDataParallel, whatever the backend is; each ends a gloo run on a CPU before it starts.
Until mmengine asks whether there is a device.
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
    from mmengine.model import MMDistributedDataParallel

    set_device = torch.cuda.set_device
    wrap = MMDistributedDataParallel.__init__

    @functools.wraps(set_device)
    def set_device_if_any(device) -> None:
        if torch.cuda.is_available():
            set_device(device)

    @functools.wraps(wrap)
    def wrap_without_devices(self, module, *args, **kwargs) -> None:
        if all(parameter.device.type == 'cpu' for parameter in module.parameters()):
            kwargs.pop('device_ids', None)
        wrap(self, module, *args, **kwargs)

    torch.cuda.set_device = set_device_if_any
    MMDistributedDataParallel.__init__ = wrap_without_devices
    _mended = True

"""mmengine leaves to ``torch.load`` what a checkpoint may hold: too little, or anything at all.

From torch 2.6 on ``torch.load`` refuses mmengine's own checkpoints, with the message hub's
``HistoryBuffer`` and numpy arrays in them, and what other programs put beside the weights; before,
and for every URL, it runs whatever a file tells it to. :mod:`mmkendall.compat.safe_loading` reads
in their place, for teachers, resume, test and converters alike: all go through mmengine's
``CheckpointLoader``. Until mmengine does so itself.
"""

from contextlib import contextmanager
from functools import wraps

import torch

from mmkendall.compat import safe_loading

BREAKS = "torch refuses to resume from mmengine's checkpoints, or runs what they tell it to"
PACKAGES = ('mmengine',)

_mended = False


def is_broken() -> bool:
    return not _mended


def mend() -> None:
    global _mended
    from mmengine.runner import CheckpointLoader

    if safe_loading.TORCH_IS_SAFE:
        # For whoever calls torch.load itself, as some hooks and tools do.
        torch.serialization.add_safe_globals(
            [(item, name) for name, item in safe_loading.safe_globals().items()]
        )
    load_checkpoint = CheckpointLoader.load_checkpoint

    @wraps(load_checkpoint)
    def safe_load_checkpoint(filename, map_location=None, logger='current'):
        with safe_torch_load():
            return load_checkpoint(filename, map_location, logger)

    CheckpointLoader.load_checkpoint = staticmethod(safe_load_checkpoint)
    _mended = True


@contextmanager
def safe_torch_load():
    """``torch.load`` reads what is safe to read, also where its caller asks for no protection."""
    original = torch.load

    def safe_load(file, map_location=None, *args, **options):
        return safe_loading.load(file, map_location, torch_load=original)

    torch.load = wraps(original)(safe_load)
    try:
        yield
    finally:
        torch.load = original

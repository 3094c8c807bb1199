"""torch 2.6 loads checkpoints with ``weights_only=True``, which refuses mmengine's own.

They hold the message hub's ``HistoryBuffer`` and numpy arrays. Only those classes are allowed; the
protection stays on. Until mmengine registers them itself.
"""

import torch

BREAKS = "torch refuses to resume from mmengine's checkpoints: they hold a HistoryBuffer"
PACKAGES = ('mmengine',)

_mended = False


def is_broken() -> bool:
    # Before torch 2.6 the protection is off by default.
    default_is_safe = tuple(int(part) for part in torch.__version__.split('.')[:2]) >= (2, 6)
    return default_is_safe and not _mended


def mend() -> None:
    global _mended
    import numpy as np
    from mmengine.logging import HistoryBuffer

    def history_method(owner: type, name: str):
        """``getattr``, but for the statistics of HistoryBuffer alone."""
        if owner is not HistoryBuffer or name.startswith('_'):
            raise ValueError(f'a checkpoint may not read {name!r} of {owner!r}')
        return getattr(owner, name)

    multiarray = np._core.multiarray if hasattr(np, '_core') else np.core.multiarray
    dtypes = {type(np.dtype(kind)) for kind in ('f4', 'f8', 'i4', 'i8', 'u1', 'bool', 'O')}
    torch.serialization.add_safe_globals(
        [
            HistoryBuffer,
            # A HistoryBuffer pickles its methods as getattr(HistoryBuffer, name).
            (history_method, 'builtins.getattr'),
            np.ndarray,
            np.dtype,
            *dtypes,
            multiarray._reconstruct,
            multiarray.scalar,
            # What numpy 1 called them, as older checkpoints spell it.
            (multiarray._reconstruct, 'numpy.core.multiarray._reconstruct'),
            (multiarray.scalar, 'numpy.core.multiarray.scalar'),
        ]
    )
    _mended = True

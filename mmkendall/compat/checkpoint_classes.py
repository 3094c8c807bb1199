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

    multiarray = np._core.multiarray if hasattr(np, '_core') else np.core.multiarray
    dtypes = {type(np.dtype(kind)) for kind in ('f4', 'f8', 'i4', 'i8', 'u1', 'bool', 'O')}
    torch.serialization.add_safe_globals(
        [HistoryBuffer, multiarray._reconstruct, multiarray.scalar, np.ndarray, np.dtype, *dtypes]
    )
    # What numpy 1 called the same functions, as older checkpoints spell them.
    torch.serialization.add_safe_globals(
        [
            (multiarray._reconstruct, 'numpy.core.multiarray._reconstruct'),
            (multiarray.scalar, 'numpy.core.multiarray.scalar'),
        ]
    )
    _mended = True

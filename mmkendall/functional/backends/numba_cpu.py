"""The ranking loss in compiled CPU loops (Numba, compiled at first use and kept on disk).

Four algorithms share the work; ``'auto'`` picks one for each row by an estimate of its time:

==========  ===============================================================  ===================
algorithm   what it does                                                     takes
==========  ===============================================================  ===================
``dense``   every pair of classes; tanh as a ratio of exponentials where k   everything, O(C^2)
            times the range of the logits allows, else two exponentials
==========  ===============================================================  ===================

Rows are shared out over ``torch.get_num_threads()`` threads of this process, started when there is
enough work and never inherited by a fork. One thread runs in the caller's own.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

ALGORITHMS = ('dense',)
SURROGATE_CODES = {'product': 0, 'diffkendall': 1, 'hard_teacher': 2}


@functools.lru_cache(maxsize=1)
def _import_problem() -> str | None:
    """Why the compiled loops can't be had. Numba is imported here, at first use."""
    try:
        from mmkendall.functional.backends import numba_kernels  # noqa: F401
    except Exception as error:  # Numba raises its own kinds when NumPy is too new for it.
        return f'Numba cannot be imported ({error}); pip install "mmkendall[numba]"'
    return None


def unavailable(
    device: torch.device, dtype: torch.dtype, num_classes: int, surrogate: str
) -> str | None:
    """Needs Numba and tensors on the CPU."""
    if device.type != 'cpu':
        return f'it computes on the CPU, the logits are on {device}'
    return _import_problem()


def rank_loss(
    preds_S: Tensor, preds_T: Tensor, steepness: float, surrogate: str, need_grad: bool
) -> tuple[Tensor, Tensor]:
    """See the contract in ``backends/__init__.py``."""
    from mmkendall.functional.backends import numba_kernels as kernels

    num_rows, num_classes = preds_S.shape
    rows_S, rows_T = preds_S.detach().numpy(), preds_T.detach().numpy()
    import numpy as np

    finite = np.nonzero(np.isfinite(rows_S).all(1) & np.isfinite(rows_T).all(1))[0]
    total = np.zeros(num_rows)
    slope = np.zeros_like(rows_S) if need_grad else np.zeros((0, 0), rows_S.dtype)
    kernels.dense_rows(
        rows_S, rows_T, steepness, SURROGATE_CODES[surrogate], finite, need_grad, total, slope
    )
    pairs = num_classes * (num_classes - 1) / 2
    if need_grad:
        slope *= -steepness / pairs
    return torch.from_numpy(1 - total / pairs).to(preds_S.dtype), torch.from_numpy(slope)

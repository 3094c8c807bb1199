"""The ranking loss on CUDA devices, by Triton kernels.

One pass over the pairs gives the value and the gradient; a pair lives in registers only, so memory
beside the gradient is O(N C). Sums are taken in a fixed order: the same input gives the same bits.

``dense``
    All ordered pairs. Samples with ``steepness * (max - min)`` under 30 in both logits go by a
    ratio of exponentials that are computed once for a class; the others take an exponential for
    each pair. The choice is made on the device, for each sample.
``window``
    For many classes and a large steepness, not for DiffKendall's surrogate. The classes are sorted
    by student: the gradient needs only the pairs within 9 / steepness of each other, the rest are
    saturated to float32. Sorted by teacher, the value of these is a count of signs.

``TRITON_INTERPRET=1``, set before the first call, runs the kernels on a CPU: slow, for tests.
"""

from __future__ import annotations

import functools
import importlib.util
import os

import torch
from torch import Tensor

from mmkendall.functional.backends.reference import zero_or_nan

MAX_CLASSES = 262_144
ALGORITHMS = ('auto', 'dense', 'window')
# Where the window pays for its two sorts.
WINDOW_CLASSES = 512
WINDOW_STEEPNESS = 4.0
# 1 - tanh(9)^2 is half a unit in the last place of a float32 one.
SATURATED = 9.0
BLOCK_I = 64
BLOCK_J = 32
# Two programs for each multiprocessor of an H100; columns are split where there are fewer.
MIN_PROGRAMS = 264
MIN_COLUMNS = 256


@functools.cache
def _installed() -> bool:
    return importlib.util.find_spec('triton') is not None


def interpreted() -> bool:
    """Whether Triton's interpreter is asked for, which needs no GPU."""
    return os.environ.get('TRITON_INTERPRET') == '1'


def unavailable(
    device: torch.device, dtype: torch.dtype, num_classes: int, surrogate: str
) -> str | None:
    """Triton, a CUDA device, float32 and at most ``MAX_CLASSES`` classes are needed."""
    if not _installed():
        return 'Triton is not installed'
    if device.type != 'cuda' and not interpreted():
        return f'it needs logits on a CUDA device, not on {device.type}'
    if dtype != torch.float32:
        return 'it computes in float32'
    if num_classes > MAX_CLASSES:
        return f'it takes {MAX_CLASSES} classes at most, not {num_classes}'
    return None


def rank_loss(
    preds_S: Tensor,
    preds_T: Tensor,
    steepness: float,
    surrogate: str,
    need_grad: bool,
    compute_value: bool = True,
    average: bool = False,
    algorithm: str = 'auto',
) -> tuple[Tensor, Tensor]:
    """See the contract in ``backends/__init__.py``.

    Args:
        algorithm: ``'dense'``, ``'window'`` or, by classes and steepness, ``'auto'``.

    Raises:
        ValueError: an unknown algorithm, or the window for DiffKendall's surrogate.
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(f'algorithm must be one of {ALGORITHMS}, got {algorithm!r}')
    if algorithm == 'window' and surrogate == 'diffkendall':
        raise ValueError("algorithm='window' does not serve surrogate='diffkendall'")
    num_classes = preds_S.shape[1]
    if algorithm == 'auto':
        many = num_classes >= WINDOW_CLASSES and steepness >= WINDOW_STEEPNESS
        algorithm = 'window' if many and surrogate != 'diffkendall' else 'dense'
    arguments = (preds_S, preds_T, steepness, surrogate, need_grad)
    with torch.cuda.device_of(preds_S):
        if algorithm == 'window':
            total, grads = _window(*arguments, compute_value)
        else:  # The value comes with the gradient.
            total, grads = _dense(*arguments)
        losses = zero_or_nan(preds_S, preds_T)
        if not need_grad:
            grad = preds_S.new_empty(0)
        elif grads.shape[0] == 1:
            grad = grads[0].add_(losses.unsqueeze(1))
        else:
            grad = grads.sum(dim=0).add_(losses.unsqueeze(1))
        if compute_value:
            losses.add_(1 - total / (num_classes * (num_classes - 1)))
        if average:
            grad.div_(len(losses))
        return losses.mean() if average else losses, grad


def _grid(preds: Tensor) -> tuple[int, int, int]:
    """Samples, blocks of classes, and shares of the classes that a block is compared with."""
    num_rows, num_classes = preds.shape
    blocks = -(-num_classes // BLOCK_I)
    shares = min(-(-MIN_PROGRAMS // (num_rows * blocks)), num_classes // MIN_COLUMNS)
    return num_rows, blocks, max(1, shares)


def _outputs(preds: Tensor, grid: tuple[int, int, int], need_grad: bool) -> tuple[Tensor, Tensor]:
    """What each program finds: a part of the value, and the gradient by each share."""
    totals = preds.new_empty(grid[0], grid[1] * grid[2], dtype=torch.float64)
    grads = preds.new_empty(grid[2], *preds.shape) if need_grad else preds.new_empty(1)
    return totals, grads


def _constants(preds: Tensor, surrogate: str) -> dict[str, str | int | bool]:
    """What the kernels are compiled for."""
    return {
        'SURROGATE': surrogate,
        'BLOCK_I': BLOCK_I,
        'BLOCK_J': BLOCK_J,
        'PTX': preds.is_cuda and torch.version.hip is None,
    }


def _grad_scale(num_classes: int, steepness: float) -> float:
    """Eq. 11's -2k / (C (C - 1)) and the 4 of 1 - tanh^2, which the kernels leave out."""
    return -8 * steepness / (num_classes * (num_classes - 1))


def _dense(
    preds_S: Tensor, preds_T: Tensor, steepness: float, surrogate: str, need_grad: bool
) -> tuple[Tensor, Tensor]:
    """The sum of the agreement over ordered pairs (N,), and the gradient by each share."""
    from mmkendall.functional.backends import triton_kernels as kernels

    num_rows, num_classes = preds_S.shape
    grad_scale = _grad_scale(num_classes, steepness)
    grid = _grid(preds_S)
    totals, grads = _outputs(preds_S, grid, need_grad)
    fits = torch.zeros(num_rows, dtype=torch.int32, device=preds_S.device)
    options = {**_constants(preds_S, surrogate), 'NEED_GRAD': need_grad}
    if surrogate != 'diffkendall':
        exps = [torch.empty_like(preds_S) for _ in range(3)]
        kernels.exponentials[(num_rows,)](
            preds_S, preds_T, *exps, fits, steepness, num_classes, BLOCK=1024
        )
        kernels.pairs_by_ratio[grid](
            preds_T, *exps, fits, totals, grads, grad_scale, num_classes, **options
        )
    order = fits  # read only with a window
    kernels.pairs[grid](
        preds_S,
        preds_T,
        order,
        fits,
        totals,
        grads,
        steepness,
        grad_scale,
        0.0,
        num_classes,
        WINDOW=False,
        **options,
    )
    return totals.sum(dim=1), grads


def _window(
    preds_S: Tensor,
    preds_T: Tensor,
    steepness: float,
    surrogate: str,
    need_grad: bool,
    compute_value: bool,
) -> tuple[Tensor, Tensor]:
    """As ``_dense``, by near pairs alone; without ``compute_value`` the sum is a part of it."""
    from mmkendall.functional.backends import triton_kernels as kernels

    num_classes = preds_S.shape[1]
    grad_scale = _grad_scale(num_classes, steepness)
    grid = _grid(preds_S)
    totals, grads = _outputs(preds_S, grid, need_grad)
    constants = _constants(preds_S, surrogate)
    width = SATURATED / steepness

    ascending_S, order = preds_S.sort(dim=1)
    kernels.pairs[grid](
        ascending_S,
        preds_T.gather(1, order),
        order,
        order,
        totals,
        grads,
        steepness,
        grad_scale,
        width,
        num_classes,
        WINDOW=True,
        NEED_GRAD=need_grad,
        **constants,
    )
    total = totals.sum(dim=1)
    if not compute_value:
        return total, grads

    ascending_T, order = preds_T.sort(dim=1)
    kernels.pairs_of_signs[grid](
        preds_S.gather(1, order),
        ascending_T,
        totals,
        steepness,
        0.0 if surrogate == 'hard_teacher' else width,
        num_classes,
        **constants,
    )
    return total + totals.sum(dim=1), grads

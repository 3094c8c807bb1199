"""The ranking loss in compiled CPU loops (Numba, compiled at first use and kept on disk).

Six algorithms share the work. ``'auto'`` estimates their times for each row from C, k and the
range of the row's logits, and takes the fastest that can take the row:

``dense``
    Every pair of classes, O(C^2): tanh as a ratio of exponentials while k times the range of both
    logits is at most 28 (``'product'``), else one exponential for each tanh. Takes everything.
    ``'auto'`` takes it for up to 16 classes, for a few rows of up to a few hundred, and for
    ``'diffkendall'``.
``lanes``
    The same for eight rows at once, one in each lane of a vector; beyond a range of 28 with
    exponents that are split off, so that any k costs the same. For a batch of up to a few hundred
    classes.
``window``
    The classes are put in order; only pairs closer than 8 / k (20 / k in float64) need their tanh,
    order counts for all others. For large k times range. Not for ``'diffkendall'``.
``sweep``
    What ``window`` computes, but O(C) and unsorted: the classes in strips along each axis, the
    tanh of all classes in other strips on the nodes of a line, and the pairs that are closer than
    8 / k, or in the same strip, in both logits. For large k and thousands of classes.
``grid``
    The classes are spread on a grid over (student, teacher) in steps of 1 / (4 k), as for a
    nonuniform Fourier transform, the two tanh become convolutions, and the gradient is read off.
    O(C) for a given range, so it serves small k and hundreds of classes or more. At most 1,400,000
    nodes.
``flat``
    For rows in which k times the range of a logit is under 0.5, a constant one among them, or in
    which all but a few classes are tied at the lowest: that side's tanh is a polynomial, so that
    sums over one logit alone remain. O(C), by torch operations; see ``flat.py``.
    ``'diffkendall'`` only with ties.

``lanes``, ``sweep`` and ``grid`` are for ``'product'`` in float32, with k times both ranges at
least 0.5.

Rows are shared out over ``torch.get_num_threads()`` threads of this process, started when there is
enough work and never inherited by a fork. One thread runs in the caller's own.
"""

from __future__ import annotations

import functools
import math
import os
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from mmkendall.functional.backends.flat import flat_rows

# In the order of the codes in numba_loops.choice.
ALGORITHMS = ('dense', 'lanes', 'window', 'sweep', 'grid', 'flat')
SURROGATE_CODES = {'product': 0, 'diffkendall': 1, 'hard_teacher': 2}
# Handing rows to other threads takes about a tenth of this.
MIN_SECONDS_FOR_THREADS = 5e-4
# Rows that `lanes` takes at once. Other algorithms lose little by such parts.
LANES = 8


@functools.lru_cache(maxsize=1)
def _import_problem() -> str | None:
    """Why the compiled loops can't be had. Numba and NumPy are imported at first use."""
    try:
        from mmkendall.functional.backends.numba_loops import choice  # noqa: F401
    except Exception as error:  # Numba raises its own kinds when NumPy is too new for it.
        return f'Numba cannot be imported ({error}); pip install numba'
    return None


def unavailable(
    device: torch.device, dtype: torch.dtype, num_classes: int, surrogate: str
) -> str | None:
    """Needs Numba and tensors on the CPU."""
    if device.type != 'cpu':
        return f'it computes on the CPU, the logits are on {device}'
    return _import_problem()


@functools.lru_cache(maxsize=1)
def _loops() -> tuple:
    """The choice, what runs each code that it may give, and the mean."""
    from mmkendall.functional.backends.numba_loops import choice, dense, grid, lanes, sweep, window

    algorithms = (
        *(dense.dense_rows, lanes.lanes_rows, window.window_rows, sweep.sweep_rows),
        *(grid.grid_rows, _flat_rows, window.narrow_window_rows),
    )
    return choice.choose_algorithms, algorithms, choice.mean_loss


def _flat_rows(
    preds_S, preds_T, steepness, surrogate, rows, need_grad, compute_value, weight, loss, grad
) -> None:
    """``flat`` with the arguments of the compiled loops."""
    name = next(name for name, code in SURROGATE_CODES.items() if code == surrogate)
    logits = (torch.from_numpy(preds[rows]) for preds in (preds_S, preds_T))
    losses, slopes = flat_rows(*logits, steepness, name, compute_value)
    loss[rows] = losses.numpy()
    if need_grad:
        grad[rows] = (slopes * weight).numpy()


@functools.lru_cache(maxsize=8)
def _all_rows(num_rows: int):
    return torch.arange(num_rows).numpy()


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
        algorithm: ``'auto'`` or one of ``ALGORITHMS``; see the top of this file.

    Raises:
        ValueError: an algorithm that isn't known or can't take a row of this input.
    """
    if algorithm != 'auto' and algorithm not in ALGORITHMS:
        raise ValueError(f'algorithm must be auto or one of {ALGORITHMS}, got {algorithm!r}')
    choose, algorithms, mean_loss = _loops()
    forced = -1 if algorithm == 'auto' else ALGORITHMS.index(algorithm)
    num_rows, num_classes = preds_S.shape
    loss = torch.empty(num_rows, dtype=preds_S.dtype)
    grad = torch.empty(num_rows if need_grad else 0, num_classes, dtype=preds_S.dtype)
    data = (preds_S.detach().numpy(), preds_T.detach().numpy())
    data = (*data, steepness, SURROGATE_CODES[surrogate])
    weight = 1 / num_rows if average else 1.0
    results = (need_grad, compute_value, weight, loss.numpy(), grad.numpy())

    codes, lowest, highest, seconds = choose(*data, forced)
    for code in range(lowest, highest + 1):
        rows = _all_rows(num_rows) if lowest == highest else (codes == code).nonzero()[0]
        if len(rows) == 0:
            continue
        if code == -2:
            raise ValueError(f'algorithm {algorithm!r} cannot take this input: see {__name__}')
        if code == -1:  # A NaN or an infinity.
            loss[rows] = math.nan
            grad[rows if need_grad else ()] = math.nan
        else:
            _share_rows(seconds * len(rows) / num_rows, rows, algorithms[code], data, results)
    if average:
        losses, loss = loss, torch.empty((), dtype=loss.dtype)
        mean_loss(losses.numpy(), loss.numpy())
    return loss, grad if need_grad else grad.view(-1)


def tau_b(rows_S: Tensor, rows_T: Tensor, tau: Tensor) -> None:
    """Writes Kendall's tau-b of contiguous rows (N, C) into ``tau`` (N,), float64."""
    from mmkendall.functional.backends.numba_loops.tau import tau_b_rows

    data = (rows_S.detach().numpy(), rows_T.detach().numpy())
    rows = _all_rows(rows_S.shape[0])
    # About 50 ns for each class.
    _share_rows(rows_S.numel() * 5e-8, rows, tau_b_rows, data, (tau.numpy(),))


def _share_rows(seconds: float, rows, run, before, after) -> None:
    """Calls ``run(*before, part of rows, *after)`` in this thread or in each of several."""
    threads = min(torch.get_num_threads(), len(rows))
    if threads == 1 or seconds < MIN_SECONDS_FOR_THREADS:
        run(*before, rows, *after)
        return
    size = -(-len(rows) // threads)
    if size > LANES:
        size = -(-size // LANES) * LANES
    parts = [rows[first : first + size] for first in range(0, len(rows), size)]
    pool = _thread_pool(os.getpid(), threads - 1)
    others = [pool.submit(run, *before, part, *after) for part in parts[1:]]
    run(*before, parts[0], *after)
    for other in others:
        other.result()


@functools.lru_cache(maxsize=1)
def _thread_pool(process: int, threads: int) -> ThreadPoolExecutor:
    """A forked child has another ``process`` and so never waits for its parent's threads."""
    return ThreadPoolExecutor(threads, thread_name_prefix='mmkendall')

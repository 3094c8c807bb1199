"""The ranking loss in compiled CPU loops (Numba, compiled at first use and kept on disk).

Three algorithms share the work. ``'auto'`` chooses for each row from C, k and the range of its
logits; docs/how_the_loops_work.md explains them.

``dense``
    Every pair of classes, O(C^2): tanh as a ratio of exponentials (``'product'``; in float64 while
    k times the range of both logits is at most 28), else one exponential for each tanh. Takes
    everything. ``'auto'`` takes it for up to about 128 classes, and for ``'diffkendall'``.
``window``
    The classes are put in order; only pairs closer than 8 / k (20 / k in float64) need their tanh,
    order counts for all others. For large k times range. Where a class has more than a hundred
    such neighbours, it is O(C) in float32: they are summed up on a line of nodes, and only pairs
    that are near in both logits are taken one by one. Not for ``'diffkendall'``.
``grid``
    The classes are spread on a grid over (student, teacher) in steps of 1 / (4 k), as for a
    nonuniform Fourier transform, the two tanh become convolutions, and the gradient is read off.
    O(C) for a given range, so it serves small k and hundreds of classes or more. At most 1,400,000
    nodes; for ``'product'`` in float32, with k times both ranges at least 0.5.

For ``'logistic'`` there is one algorithm, O(C log C) for any row; ``logistic.py`` derives it.

Rows of thousands of classes that have no spread are left to ``flat.py``, which both this backend
and ``eager`` use.

Rows are shared out over ``torch.get_num_threads()`` threads of this process, started when there is
enough work and never inherited by a fork. One thread runs in the caller's own.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import os
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from mmkendall.functional.backends.compiling import FirstCalls, ready
from mmkendall.functional.backends.flat import (
    FLAT_RANGE,
    ends_of_rows,
    in_parts,
    mostly_tied,
)
from mmkendall.functional.backends.self_check import difference, small_batch

# In the order of the codes in numba_choice.
ALGORITHMS = ('dense', 'window', 'grid')
COUNTS_CLASSES = False
# Handing rows to other threads takes about a tenth of this.
MIN_SECONDS_FOR_THREADS = 5e-4
# What a pair of classes takes by ``dense``, to estimate whether other threads are worth it.
SECONDS_PER_PAIR = 3e-10
# So few classes are taken by pairs, which need nothing to be known of a row, whatever it holds.
MAX_DENSE_CLASSES = 128
# Fewer classes are as fast by pairs, and so need not be looked at for rows without spread.
MIN_FLAT_CLASSES = 2000
# Of the small batch: narrow, wide and tied. The grid would not take the last one's outlier.
TRIED_ROWS = 3


@functools.lru_cache(maxsize=1)
def _import_problem() -> str | None:
    """Why the compiled loops can't be had. Numba and NumPy are imported at first use."""
    try:
        from mmkendall.functional.backends import numba_choice  # noqa: F401
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


@functools.lru_cache(maxsize=8)
def _loops(surrogate: str) -> tuple:
    """What runs each code that the choice may give."""
    from mmkendall.functional.backends.numba_loops import dense, grid, logistic, window

    if surrogate == 'logistic':
        return (logistic.logistic_rows,)
    is_hard = surrogate == 'hard_teacher'
    return (
        getattr(dense, f'{surrogate}_rows'),
        window.hard_teacher_rows if is_hard else window.product_rows,
        grid.product_rows,
        window.line_rows,
    )


@functools.lru_cache(maxsize=8)
def _all_rows(num_rows: int):
    return torch.arange(num_rows, device='cpu').numpy()


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
    num_rows, num_classes = preds_S.shape
    codes, found = None, [0]
    pairs = num_rows * num_classes**2
    if algorithm != 'auto' or num_classes > MAX_DENSE_CLASSES or surrogate == 'logistic':
        from mmkendall.functional.backends.numba_choice import choose_algorithms

        ends = ends_of_rows(preds_S, preds_T)
        ranges = _scaled_ranges(ends, steepness)
        may_be_flat = num_classes >= MIN_FLAT_CLASSES and surrogate != 'logistic'
        if algorithm == 'auto' and may_be_flat and _look_flat(preds_S, preds_T, ends, ranges):
            options = (steepness, surrogate, need_grad, compute_value, average)
            result = in_parts(rank_loss, preds_S, preds_T, *options)
            if result is not None:
                return result
        forced = -1 if algorithm == 'auto' else ALGORITHMS.index(algorithm)
        is_single = preds_S.element_size() == 4
        codes, pairs = choose_algorithms(ranges, num_classes, surrogate, is_single, forced)
        found = sorted(set(codes))
    algorithms = _loops(surrogate)
    dtype, total, first = preds_S.dtype, 0.0, FirstCalls()
    data = (preds_S.detach().numpy(), preds_T.detach().numpy())
    grad = preds_S.new_empty(num_rows if need_grad else 0, num_classes)
    loss = preds_S.new_empty(num_rows)
    weight = 1 / num_rows if average else 1.0
    results = (need_grad, compute_value, weight, loss.numpy(), grad.numpy())

    try:
        for code in found:
            rows = _all_rows(num_rows)
            if len(found) > 1:
                rows = rows[[own == code for own in codes]]
            if code == -2:
                raise ValueError(f'algorithm {algorithm!r} cannot take this input: see {__name__}')
            if code == -1:  # A NaN or an infinity.
                loss[rows] = total = math.nan
                grad[rows if need_grad else ()] = math.nan
                continue
            run, before = algorithms[code], (*data, steepness)
            if (run, dtype) not in ready:
                _try(first, run, dtype, surrogate)
            seconds = pairs * SECONDS_PER_PAIR * len(rows) / num_rows
            total += _share_rows(seconds, rows, run, before, results)
    finally:
        first.close()
    if average:
        loss = preds_S.new_full((), total / num_rows)
    return loss, grad if need_grad else grad.view(-1)


def _scaled_ranges(ends: Tensor, steepness: float) -> list[list[float]]:
    """k times the range of each of the student's rows and of the teacher's.

    As numbers of Python: no overflow of float32, and no warning of an infinity.
    """
    low_S, high_S, low_T, high_T = ends.tolist()
    return [
        [steepness * (high - low) for low, high in zip(*own, strict=True)]
        for own in ((low_S, high_S), (low_T, high_T))
    ]


def _look_flat(preds_S: Tensor, preds_T: Tensor, ends: Tensor, ranges: list[list[float]]) -> bool:
    """Whether a row may be one of those that ``in_parts`` takes or leaves out."""
    if not all(FLAT_RANGE <= own < math.inf for own in itertools.chain(*ranges)):
        return True
    return bool((mostly_tied(preds_S, ends[0]) | mostly_tied(preds_T, ends[2])).any())


def _try(first: FirstCalls, run, dtype: torch.dtype, surrogate: str) -> None:
    """The first call of a loop, on a small batch.

    Raises:
        RuntimeError: the result is not what torch computes.
    """
    preds_S, preds_T = (logits[:TRIED_ROWS].to(dtype) for logits in small_batch(1.0))
    loss, grad = preds_S.new_empty(TRIED_ROWS), torch.empty_like(preds_S)
    data = (preds_S.numpy(), preds_T.numpy(), 1.0)
    results = (True, True, 1.0, loss.numpy(), grad.numpy())
    for row in _all_rows(TRIED_ROWS).reshape(-1, 1):  # Each in the way that suits it.
        first.make(run, *data, row, *results)
    problem = difference(loss, grad, preds_S, preds_T, 1.0, surrogate)
    if problem:
        loop = f'{run.__module__.rpartition(".")[2]}.{run.__name__}'
        raise RuntimeError(
            f"the compiled loop {loop} is wrong here: {problem}; backend='eager' does without it"
        )
    ready.add((run, dtype))


def tau_b(rows_S: Tensor, rows_T: Tensor, tau: Tensor) -> None:
    """Writes Kendall's tau-b of contiguous rows (N, C) into ``tau`` (N,), float64."""
    from mmkendall.functional.backends.numba_loops.tau import tau_b_rows

    data = (rows_S.detach().numpy(), rows_T.detach().numpy())
    rows = _all_rows(rows_S.shape[0])
    if (tau_b_rows, rows_S.dtype) not in ready:
        with contextlib.closing(FirstCalls()) as first:
            first.make(tau_b_rows, *data, rows[:0], tau.numpy())
            ready.add((tau_b_rows, rows_S.dtype))
    # About 50 ns for each class.
    _share_rows(rows_S.numel() * 5e-8, rows, tau_b_rows, data, (tau.numpy(),))


def _share_rows(seconds: float, rows, run, before, after) -> float:
    """Calls ``run(*before, part of rows, *after)`` in this thread or in each of several.

    Returns the sum of what it returns.
    """
    if seconds < MIN_SECONDS_FOR_THREADS:
        return run(*before, rows, *after)
    threads = min(torch.get_num_threads(), len(rows))
    if threads == 1:
        return run(*before, rows, *after)
    size = -(-len(rows) // threads)
    parts = [rows[first : first + size] for first in range(0, len(rows), size)]
    pool = _thread_pool(os.getpid(), threads - 1)
    others = [pool.submit(run, *before, part, *after) for part in parts[1:]]
    return run(*before, parts[0], *after) + sum(other.result() for other in others)


@functools.lru_cache(maxsize=1)
def _thread_pool(process: int, threads: int) -> ThreadPoolExecutor:
    """A forked child has another ``process`` and so never waits for its parent's threads."""
    return ThreadPoolExecutor(threads, thread_name_prefix='mmkendall')

"""The ranking loss on CUDA devices, by Triton kernels.

One pass over the pairs gives the value and the gradient; a pair lives in registers only, so memory
beside the gradient is O(N C). Sums are taken in a fixed order: the same input gives the same bits.
Nothing waits for the device, and all that is computed is computed there, so a call can be captured
in a CUDA graph. That includes which classes count: a wait in the middle of a training step would
cost more than the loss.

``dense``
    All pairs, each once. Samples with ``steepness * (max - min)`` under 30 in both logits go by a
    ratio of exponentials that are computed once for a class; the others take an exponential for
    each pair. The choice is made on the device, for each sample.
``window``
    For many classes and a large steepness, where tanh saturates: not for DiffKendall's surrogate
    nor the logistic one. The classes are sorted
    by student: the gradient needs only the pairs within 9 / steepness of each other, the rest are
    saturated to float32. Sorted by teacher, the value of these is a count of signs.

``TRITON_INTERPRET=1``, set before the first call, runs the kernels on a CPU: slow, for tests.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os

import torch
from torch import Tensor

COUNTS_CLASSES = True
SURROGATES = ('product', 'diffkendall', 'hard_teacher', 'logistic')
MAX_CLASSES = 262_144
ALGORITHMS = ('auto', 'dense', 'window')
WINDOW_SURROGATES = ('product', 'hard_teacher')
# Classes and steepness from which the window pays for its two sorts, by the instructions that a
# pair takes and for logits of a standard deviation between 1 and 3.
WINDOW_FROM = ((512, 16.0), (4096, 8.0))
# 1 - tanh(9)^2 is half a unit in the last place of a float32 one.
SATURATED = 9.0
# Longer rows are sorted by torch.
SORTED_CLASSES = 2048
BLOCK_I = 16
BLOCK_J = 32
# Some waves of programs on an H100, each of one warp; columns are split where there are fewer.
MIN_PROGRAMS = 8192
MIN_COLUMNS = 256
# Each block of classes takes half a float for a class. Few rows take more blocks than many.
MIN_BLOCKS = 32
MAX_BLOCKS = 128
# A float32 accumulator takes this many columns in `all_pairs`.
MAX_COLUMNS = 16_384


@functools.cache
def _installed() -> bool:
    return importlib.util.find_spec('triton') is not None


def interpreted() -> bool:
    """Whether Triton's interpreter is asked for, which needs no GPU."""
    return os.environ.get('TRITON_INTERPRET') == '1'


def unavailable(
    device: torch.device, dtype: torch.dtype, num_classes: int, surrogate: str
) -> str | None:
    """Triton, a CUDA device, float32 and not too many classes are needed."""
    if not _installed():
        return 'Triton is not installed'
    if device.type != 'cuda' and not interpreted():
        return f'it needs logits on a CUDA device, not on {device.type}'
    if dtype != torch.float32:
        return 'it computes in float32'
    if num_classes > MAX_CLASSES:
        return f'it takes {MAX_CLASSES} classes at most, not {num_classes}'
    return None


def part(num_classes: int, steepness: float, surrogate: str) -> str:
    """The algorithm that ``'auto'`` takes."""
    many = any(num_classes >= least[0] and steepness >= least[1] for least in WINDOW_FROM)
    return 'window' if many and surrogate in WINDOW_SURROGATES else 'dense'


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
        ValueError: an unknown algorithm, or the window for a surrogate that it does not serve.
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(f'algorithm must be one of {ALGORITHMS}, got {algorithm!r}')
    if algorithm == 'window' and surrogate not in WINDOW_SURROGATES:
        raise ValueError(f"algorithm='window' does not serve surrogate={surrogate!r}")
    if algorithm == 'auto':
        algorithm = part(preds_S.shape[1], steepness, surrogate)
    with _on_device_of(preds_S):
        run = _window if algorithm == 'window' else _dense
        return run(preds_S, preds_T, steepness, surrogate, need_grad, compute_value, average)


def _on_device_of(preds: Tensor) -> contextlib.AbstractContextManager:
    """Makes the device of the logits the current one; most often it is, which takes less time."""
    if not preds.is_cuda or preds.get_device() == torch.cuda.current_device():
        return contextlib.nullcontext()
    return torch.cuda.device_of(preds)


def _nvidia(preds: Tensor) -> bool:
    return preds.is_cuda and torch.version.hip is None


def _build(preds: Tensor, registers: int = 128) -> dict[str, int | bool]:
    """How a kernel is compiled."""
    # Fused for speed alone: no result relies on the rounding of a product.
    options = {'enable_fp_fusion': True}
    if _nvidia(preds):
        # Left to itself, ptxas may aim for more programs at a time and spill a few bytes.
        options['maxnreg'] = registers
    return options


def _pairwise(preds: Tensor, surrogate: str) -> dict[str, str | int | bool]:
    """What the kernels that compare classes are compiled for."""
    return {
        'SURROGATE': surrogate,
        'BLOCK_I': BLOCK_I,
        'BLOCK_J': BLOCK_J,
        'PTX': _nvidia(preds),
        'num_warps': 1,
    }


def _rowwise(num_classes: int, most: int) -> dict[str, int]:
    """How many classes the other kernels take at a time."""
    block = min(most, 1 << (num_classes - 1).bit_length())
    return {'BLOCK': block, 'num_warps': max(1, block // 128)}


def _circle(num_rows: int, num_classes: int) -> tuple[int, int, int]:
    """Blocks of classes for ``all_pairs``, their size, and shares of their distances."""
    most = max(MIN_BLOCKS, int(MAX_BLOCKS / num_rows**0.5))
    block_size = BLOCK_J * -(-num_classes // (BLOCK_J * most))
    blocks = -(-num_classes // block_size)
    distances = blocks // 2 + 1
    wanted = -(-MIN_PROGRAMS // (num_rows * blocks)), -(-distances * block_size // MAX_COLUMNS)
    shares = min(distances, max(wanted))
    return blocks, block_size, shares


def _grid(num_rows: int, num_classes: int) -> tuple[int, int, int]:
    """Samples, blocks of classes, and shares of the classes that a block is compared with."""
    blocks = -(-num_classes // BLOCK_I)
    shares = min(-(-MIN_PROGRAMS // (num_rows * blocks)), num_classes // MIN_COLUMNS)
    return num_rows, blocks, max(1, shares)


def _dense(
    preds_S: Tensor,
    preds_T: Tensor,
    steepness: float,
    surrogate: str,
    need_grad: bool,
    compute_value: bool,
    average: bool,
) -> tuple[Tensor, Tensor]:
    """By all pairs; the value comes with the gradient."""
    from mmkendall.functional.backends import triton_kernels as kernels

    num_rows, num_classes = preds_S.shape
    blocks, block_size, shares = _circle(num_rows, num_classes)
    nodes, places, about = _prepare(preds_S, preds_T, steepness, surrogate)
    totals = preds_S.new_empty(num_rows, blocks * shares, dtype=torch.float64)
    rows = columns = totals  # not used without a gradient
    if need_grad:
        rows = preds_S.new_empty(shares, num_rows, num_classes)
        columns = preds_S.new_empty(num_rows, blocks, blocks // 2 + 1, block_size)
    kernels.all_pairs[(num_rows, blocks, shares)](
        nodes,
        about,
        totals,
        rows,
        columns,
        steepness,
        num_classes,
        block_size,
        NEED_GRAD=need_grad,
        **_pairwise(preds_S, surrogate),
        **_build(preds_S),
    )
    found = totals, rows, columns, places, about
    circle = blocks, block_size
    options = need_grad, compute_value, average
    return _finish(preds_S, steepness, surrogate, found, circle, *options)


def _places(preds: Tensor) -> tuple[Tensor, Tensor]:
    """What the first kernel says of the classes and of the samples; see ``triton_kernels``."""
    from mmkendall.functional.backends import triton_kernels as kernels

    num_rows = preds.shape[0]
    places = torch.empty_like(preds, dtype=torch.int32)
    counts = -(-num_rows // kernels.SAMPLES.value)
    return places, preds.new_empty(2 * num_rows + counts, dtype=torch.int32)


def _prepare(
    preds_S: Tensor, preds_T: Tensor, steepness: float, surrogate: str, sorts: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """The classes that count as they are compared, or sorted next, and what ``_places`` holds."""
    from mmkendall.functional.backends import triton_kernels as kernels

    num_rows, num_classes = preds_S.shape
    nodes = preds_S.new_empty(2 if sorts else 3, num_rows, num_classes)
    places, about = _places(preds_S)
    kernels.prepare[(num_rows,)](
        preds_S,
        preds_T,
        nodes,
        places,
        about,
        steepness,
        num_classes,
        SURROGATE=surrogate,
        SORTS=sorts,
        **_rowwise(num_classes, 512),
        **_build(preds_S),
    )
    return nodes, places, about


def _window(
    preds_S: Tensor,
    preds_T: Tensor,
    steepness: float,
    surrogate: str,
    need_grad: bool,
    compute_value: bool,
    average: bool,
) -> tuple[Tensor, Tensor]:
    """As ``_dense``, by near pairs and, for the value, a count of the others."""
    from mmkendall.functional.backends import triton_kernels as kernels

    num_rows, num_classes = preds_S.shape
    grid = _grid(num_rows, num_classes)
    options = _pairwise(preds_S, surrogate)
    width = SATURATED / steepness
    totals = preds_S.new_empty(num_rows, grid[1] * grid[2], dtype=torch.float64)
    ranks = torch.empty_like(preds_S, dtype=torch.int32)
    rows = preds_S.new_empty(grid[2], num_rows, num_classes) if need_grad else totals
    sorts = 2 if compute_value else 1
    if num_classes <= SORTED_CLASSES:
        places, about = _places(preds_S)
        finite_T = torch.empty_like(preds_T)
        ascending = preds_S.new_empty(sorts, num_rows, num_classes)
        order = torch.empty_like(ascending, dtype=torch.int32)
        kernels.sort[(num_rows, sorts)](
            preds_S,
            preds_T,
            finite_T,
            places,
            about,
            ascending,
            order,
            steepness,
            num_classes,
            **_rowwise(num_classes, SORTED_CLASSES),
            **_build(preds_S),
        )
        by_logit = [(ascending, order), (ascending[-1], order[-1])]  # the first begin them
    else:
        nodes, places, about = _prepare(preds_S, preds_T, steepness, surrogate, sorts=True)
        finite_T = nodes[1]
        by_logit = [preds.sort(dim=1) for preds in nodes[:sorts]]
    kernels.near_pairs[grid](
        *by_logit[0],
        finite_T,
        about,
        ranks,
        totals,
        rows,
        steepness,
        width,
        num_classes,
        NEED_GRAD=need_grad,
        **options,
        **_build(preds_S, 168),
    )
    if compute_value:
        kernels.far_pairs[grid](
            *by_logit[1],
            about,
            ranks,
            totals,
            steepness,
            0.0 if surrogate == 'hard_teacher' else width,
            num_classes,
            **options,
            **_build(preds_S),
        )
    found = totals, rows, rows, places, about
    circle = 0, 1
    options = need_grad, compute_value, average
    return _finish(preds_S, steepness, surrogate, found, circle, *options)


def _finish(
    preds: Tensor,
    steepness: float,
    surrogate: str,
    found: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
    circle: tuple[int, int],
    need_grad: bool,
    compute_value: bool,
    average: bool,
) -> tuple[Tensor, Tensor]:
    """The losses, or their mean, and the gradient from what the programs found."""
    from mmkendall.functional.backends import triton_kernels as kernels

    num_rows, num_classes = preds.shape
    totals, rows, columns, places, about = found
    losses = preds.new_empty(() if average else num_rows)
    grad = torch.empty_like(preds) if need_grad else preds.new_empty(0)
    options = _rowwise(num_classes, 256)
    kernels.finish[(num_rows, -(-num_classes // options['BLOCK']) if need_grad else 1)](
        totals,
        rows,
        columns,
        losses,
        grad,
        places,
        about,
        # The gradient's -2k and the 4 of 1 - tanh^2, which the kernels leave out.
        (-2 if surrogate == 'logistic' else -8) * steepness,
        num_classes,
        totals.shape[1],
        rows.shape[0],
        *circle,
        NEED_GRAD=need_grad,
        FROM=0.0 if surrogate == 'logistic' else 1.0,
        COMPUTE_VALUE=compute_value,
        AVERAGE=average,
        **options,
        **_build(preds),
    )
    return losses, grad

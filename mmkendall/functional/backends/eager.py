"""The ranking loss in torch operations: any device, no further dependency.

One pass gives the value and the gradient. Memory beside the gradient is a few tiles of
``TILE_ELEMENTS`` elements, or of a chunk of rows: never an (N, C, C) tensor. Of four algorithms
``'auto'`` takes

``sorted``
    for ``'logistic'``, which no other serves: see ``logistic.py``.

``waves``
    where C is at least 200 and k times the range of both logits is small, for ``'product'``: tanh
    as a sum of sines of the difference, so that the sum over pairs becomes matrix products.
``window``
    where k is so large that, after sorting, few neighbours have a tanh other than +-1.
``tiles``
    else: every pair of classes, block by block.

From 200 classes on, rows in which a logit hardly varies go to ``flat``, and rows that are not
finite are left out: neither decides what the others take.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from mmkendall.functional.backends import logistic
from mmkendall.functional.backends.flat import in_parts
from mmkendall.functional.backends.reference import no_agreement, zero_or_nan

COUNTS_CLASSES = False
# A few tiles of this size stay in a core's second-level cache; a GPU wants fewer, larger kernels.
TILE_ELEMENTS = {'cpu': 1 << 18, 'other': 1 << 24}
# `waves` and `window` pay off from here.
MIN_CLASSES = 200
# With more sines than this, and more than one for so many classes, `tiles` is faster.
MAX_WAVES, CLASSES_A_WAVE = 100, 800
# From so many classes on, a GPU does `waves` faster than it compares all pairs: docs/gpu.md.
MIN_CLASSES_ON_GPU = 100_000
# Closer together than this, the sines of the logits lose the differences between them.
MIN_WAVE_RANGE = 0.5
# Square blocks of classes: the mirror block below the diagonal is had for free.
MAX_BLOCK = 256


def unavailable(
    device: torch.device, dtype: torch.dtype, num_classes: int, surrogate: str
) -> str | None:
    """Torch operations run everywhere."""
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
        algorithm: ``'auto'`` or one of those at the top of this file.

    Raises:
        ValueError: an algorithm that isn't known or can't take this input.
    """
    num_rows, num_classes = preds_S.shape
    is_logistic = surrogate == 'logistic'
    if algorithm == 'auto' and num_classes >= MIN_CLASSES and not is_logistic:
        data = (preds_S, preds_T, steepness, surrogate, need_grad, compute_value, average)
        result = in_parts(rank_loss, *data)
        if result is not None:
            return result
    if algorithm == 'auto':
        algorithm = _choose(preds_S, preds_T, steepness, surrogate)
    if algorithm == 'sorted' and is_logistic:
        terms = max(logistic.TERMS.values())
        run, rows = logistic.pair_sums, max(1, _budget(preds_S) // (num_classes * terms))
    elif algorithm == 'tiles' and not is_logistic:
        run, rows = _tiles, num_rows
    elif algorithm == 'window' and surrogate not in ('diffkendall', 'logistic'):
        run, rows = _window, max(1, _budget(preds_S) // num_classes)
    elif algorithm == 'waves' and _can_wave(preds_S, preds_T, steepness, surrogate):
        run, rows = _waves, max(1, _budget(preds_S) // (num_classes * MAX_WAVES))
    else:
        raise ValueError(f'algorithm {algorithm!r} is not known or cannot take this input')

    grad = torch.zeros_like(preds_S) if need_grad else preds_S.new_empty(0)
    agreement = []
    # Autocast would take the matrix products to half precision.
    with torch.autocast(preds_S.device.type, enabled=False):
        for first in range(0, num_rows, rows):
            part = slice(first, first + rows)
            grad_part = grad[part] if need_grad else None
            agreement.append(
                run(preds_S[part], preds_T[part], steepness, surrogate, grad_part, compute_value)
            )
    pairs = num_classes * (num_classes - 1)
    poison = zero_or_nan(preds_S, preds_T)
    if need_grad:
        share = num_rows if average else 1
        grad.mul_(-2 * steepness / pairs / share).add_(poison.unsqueeze(1))
    losses = poison
    if compute_value:
        total = agreement[0] if len(agreement) == 1 else torch.cat(agreement)
        losses = (no_agreement(surrogate) - total / pairs).to(preds_S.dtype).add_(poison)
    return losses.mean() if average else losses, grad


def _budget(preds: Tensor) -> int:
    return TILE_ELEMENTS['cpu' if preds.device.type == 'cpu' else 'other']


def _choose(preds_S: Tensor, preds_T: Tensor, steepness: float, surrogate: str) -> str:
    """The algorithm for a whole batch: all its rows get the same."""
    num_classes = preds_S.shape[1]
    if surrogate == 'logistic':
        return 'sorted'
    if num_classes < MIN_CLASSES or surrogate == 'diffkendall':
        return 'tiles'
    if _can_wave(preds_S, preds_T, steepness, surrogate):
        return 'waves'
    # Normal logits have up to this share of their classes within the window, where most lie.
    narrowest, widest = _extent(preds_S, preds_T, steepness)
    if math.isfinite(widest) and 2.6 * _reach(preds_S.dtype) < narrowest / 4:
        return 'window'
    return 'tiles'


def _extent(preds_S: Tensor, preds_T: Tensor, steepness: float) -> tuple[float, float]:
    """k times the smallest and the largest range of a row; both inf if any is not finite."""
    ranges = [(preds.amax(dim=1) - preds.amin(dim=1)).double() for preds in (preds_S, preds_T)]
    ranges = steepness * torch.cat(ranges)
    if not bool(torch.isfinite(ranges).all()):
        return math.inf, math.inf
    return float(ranges.min()), float(ranges.max())


def _can_wave(preds_S: Tensor, preds_T: Tensor, steepness: float, surrogate: str) -> bool:
    narrowest, widest = _extent(preds_S, preds_T, steepness)
    return (
        surrogate == 'product'
        and narrowest >= MIN_WAVE_RANGE
        and math.isfinite(widest)
        and _num_waves(widest, preds_S.dtype) <= max(MAX_WAVES, preds_S.shape[1] // CLASSES_A_WAVE)
    )


def beats_all_pairs(preds_S: Tensor, preds_T: Tensor, steepness: float, surrogate: str) -> bool:
    """Whether, on a GPU, these operations take less time than kernels that compare all pairs.

    They do for very many classes and a low steepness. The ranges of the logits tell, and asking
    for them waits for the device, which a CUDA graph does not allow.
    """
    if preds_S.shape[1] < MIN_CLASSES_ON_GPU or surrogate != 'product':
        return False
    if preds_S.is_cuda and torch.cuda.is_current_stream_capturing():
        return False
    return _can_wave(preds_S, preds_T, steepness, surrogate)


def _reach(dtype: torch.dtype) -> float:
    """|x| beyond which tanh(x) is +-1 to within the dtype."""
    return 20.0 if dtype == torch.float64 else 9.5


# Each algorithm takes rows (N, C), adds to `grad` (N, C), when it is not None, the sum over j of
# d agreement(i, j) / d (k s_i), and returns the agreement of all ordered pairs, (N,) float64.


def _num_waves(widest: float, dtype: torch.dtype) -> int:
    highest = 26.0 if dtype == torch.float64 else 12.0
    return math.ceil(highest * (widest + _reach(dtype)) / (2 * math.pi))


@contextlib.contextmanager
def _exact_products() -> Iterator[None]:
    """Matrix products of float32 as such, not in the TF32 or bfloat16 that a user may allow.

    The sines cancel each other by and large: rounded, they would cost the loss its digits.
    """
    if hasattr(torch.backends, 'fp32_precision'):
        # This torch keeps it by device, and raises where it is asked for all and they differ.
        holders = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
        allowed = [holder.fp32_precision for holder in holders]
        for holder in holders:
            holder.fp32_precision = 'ieee'
        try:
            yield
        finally:
            for holder, precision in zip(holders, allowed, strict=True):
                holder.fp32_precision = precision
        return
    allowed = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision('highest')
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(allowed)


@_exact_products()
def _waves(
    preds_S: Tensor,
    preds_T: Tensor,
    steepness: float,
    surrogate: str,
    grad: Tensor | None,
    compute_value: bool,
) -> Tensor:
    """tanh(x) = sum_m b_m sin(w_m x), w_m = (2m + 1) pi / H, b_m = 2 pi / (H sinh(pi w_m / 2)).

    That is the sum over n of (-1)^n tanh(x - n H), which is tanh while abs(x) < H - ``_reach``. A
    sine of a difference is a sum of products, so with the cosines and sines of all classes, A of
    the teacher and B of the student, the sum over pairs is a matter of G = A^T B.
    """
    middles, widest = [], 0.0
    for preds in (preds_S, preds_T):
        low, high = preds.amin(dim=1, keepdim=True), preds.amax(dim=1, keepdim=True)
        middles.append((low + high) / 2)
        widest = max(widest, steepness * float((high - low).max()))
    middle_S, middle_T = middles
    half_period = widest + _reach(preds_S.dtype)
    index = torch.arange(_num_waves(widest, preds_S.dtype), dtype=torch.float64)
    frequency = (2 * index + 1) * (math.pi / half_period)
    height = (2 * math.pi / half_period) / torch.sinh(frequency * (math.pi / 2))
    frequency, height = frequency.to(preds_S), height.to(preds_S)

    num_classes = preds_S.shape[1]
    step = max(1, 2 * _budget(preds_S) // (preds_S.shape[0] * 2 * len(frequency)))
    chunks = [slice(first, first + step) for first in range(0, num_classes, step)]

    def waves(preds, middle, chunk):
        phase = ((preds[:, chunk] - middle) * steepness).unsqueeze(2) * frequency
        return torch.cat((phase.cos(), phase.sin()), dim=2)

    product = 0
    for chunk in chunks:
        waves_S = waves(preds_S, middle_S, chunk)
        waves_T = waves(preds_T, middle_T, chunk)
        product = product + torch.bmm(waves_T.transpose(1, 2), waves_S)

    # sin(x - y) = sin x cos y - cos x sin y: what x meets in place of the sum over y.
    cos_T, sin_T = (height[:, None] * half for half in product.chunk(2, dim=1))
    ordered_T = torch.cat((-sin_T, cos_T), dim=1)
    if grad is not None:
        field = ordered_T * (height * frequency).repeat(2)
        for chunk in chunks:
            if len(chunks) > 1:
                waves_S = waves(preds_S, middle_S, chunk)
                waves_T = waves(preds_T, middle_T, chunk)
            grad[:, chunk] = (torch.bmm(waves_T, field) * waves_S).sum(dim=2)
    if not compute_value:
        return preds_S.new_zeros(preds_S.shape[0], dtype=torch.float64)
    cos_S, sin_S = (height * half for half in ordered_T.chunk(2, dim=2))
    return (product * torch.cat((-sin_S, cos_S), dim=2)).sum(dim=(1, 2), dtype=torch.float64)


def _window(
    preds_S: Tensor,
    preds_T: Tensor,
    steepness: float,
    surrogate: str,
    grad: Tensor | None,
    compute_value: bool,
) -> Tensor:
    """With o = +-1 by position after sorting, T S = o_t o_s + (T - o_t) o_s + T (S - o_s).

    The first term is a count of inversions; the others vanish but for neighbours.
    """
    num_classes = preds_S.shape[1]
    ordered_S, order_S = preds_S.sort(dim=1)
    teacher = preds_T.gather(1, order_S)
    slopes = torch.zeros_like(preds_S)
    total = preds_S.new_zeros(preds_S.shape[0], dtype=torch.float64)
    for offset in range(1, _neighbours(ordered_S, steepness) + 1):
        near, far = slice(0, num_classes - offset), slice(offset, None)
        student = ((ordered_S[:, near] - ordered_S[:, far]) * steepness).tanh_()
        weight = teacher[:, near] - teacher[:, far]
        weight = weight.sign_() if surrogate == 'hard_teacher' else (weight * steepness).tanh_()
        if compute_value:
            total += (weight * (student + 1)).sum(dim=1)
        if grad is not None:
            slope = weight * (1 - student * student)
            slopes[:, near] += slope
            slopes[:, far] -= slope
    if grad is not None:
        grad.scatter_(1, order_S, slopes)
    if not compute_value:
        return total

    ordered_T, order_T = preds_T.sort(dim=1)
    index = torch.arange(num_classes, device=preds_S.device).expand_as(order_S)
    ranks = torch.empty_like(order_S).scatter_(1, order_S, index).gather(1, order_T)
    reach = 0.0 if surrogate == 'hard_teacher' else None
    position = ranks.to(preds_S.dtype)
    for offset in range(1, _neighbours(ordered_T, steepness, reach) + 1):
        near, far = slice(0, num_classes - offset), slice(offset, None)
        weight = ordered_T[:, near] - ordered_T[:, far]
        weight = weight.sign_() if surrogate == 'hard_teacher' else (weight * steepness).tanh_()
        total += ((weight + 1) * (position[:, near] - position[:, far]).sign_()).sum(dim=1)
    total += num_classes * (num_classes - 1) / 2 - 2 * count_inversions(ranks)
    return 2 * total


def _neighbours(ordered: Tensor, steepness: float, reach: float | None = None) -> int:
    """How far apart, in places, two classes can be that are less than ``reach`` / k apart."""
    reach = _reach(ordered.dtype) if reach is None else reach
    end = torch.searchsorted(ordered, ordered + reach / steepness, right=True)
    index = torch.arange(1, ordered.shape[1] + 1, device=ordered.device)
    return int((end - index).max().clamp(min=0))


def count_inversions(ranks: Tensor) -> Tensor:
    """(N,) int64: pairs of columns i < j with ``ranks[i] > ranks[j]``, for permutations (N, C).

    Bit by bit from the highest: within the classes that agree in all higher bits, each 0 that
    follows a 1 is an inversion. A stable partition keeps those classes together.
    """
    num_classes = ranks.shape[1]
    index = torch.arange(num_classes, device=ranks.device).expand_as(ranks)
    inversions = ranks.new_zeros(ranks.shape[0])
    for bit in range(max(1, (num_classes - 1).bit_length()) - 1, -1, -1):
        # A permutation is complete, so the group of each prefix starts at the prefix itself.
        start = (ranks >> (bit + 1)) << (bit + 1)
        is_one = (ranks >> bit) & 1
        ones = is_one.cumsum(dim=1)
        ones_before = ones - is_one
        ones_in_group = ones_before - ones_before.gather(1, start)
        inversions += (ones_in_group * (1 - is_one)).sum(dim=1)
        zeros_in_group = index - start - ones_in_group
        middle = start + (1 << bit)
        place = torch.where(is_one == 1, middle + ones_in_group, start + zeros_in_group)
        ranks = torch.empty_like(ranks).scatter_(1, place, ranks)
    return inversions


def _tiles(
    preds_S: Tensor,
    preds_T: Tensor,
    steepness: float,
    surrogate: str,
    grad: Tensor | None,
    compute_value: bool,
) -> Tensor:
    """Every pair of classes, in square blocks above the diagonal."""
    num_rows, num_classes = preds_S.shape
    block = min(num_classes, MAX_BLOCK)
    rows = max(1, min(num_rows, _budget(preds_S) // (block * block)))
    # float64: a float32 sum of C(C-1)/2 terms would cost the value its last digits.
    total = preds_S.new_zeros(num_rows, dtype=torch.float64)
    tiles = preds_S.new_empty(3, rows * block * block)
    for row in range(0, num_rows, rows):
        rows_ = slice(row, min(row + rows, num_rows))
        for i in range(0, num_classes, block):
            for j in range(i, num_classes, block):
                _add_block(
                    preds_S[rows_],
                    preds_T[rows_],
                    slice(i, min(i + block, num_classes)),
                    slice(j, min(j + block, num_classes)),
                    steepness,
                    surrogate,
                    total[rows_],
                    None if grad is None else grad[rows_],
                    tiles,
                )
    return total


def _add_block(
    preds_S: Tensor,
    preds_T: Tensor,
    i: slice,
    j: slice,
    steepness: float,
    surrogate: str,
    total: Tensor,
    grad: Tensor | None,
    tiles: Tensor,
) -> None:
    """Adds the pairs of classes ``i`` x ``j`` and their mirror to ``total`` and ``grad``.

    ``total`` gets the agreement of each ordered pair; ``grad`` gets the derivative of that sum
    with respect to the student's logits.
    """
    shape = (preds_S.shape[0], i.stop - i.start, j.stop - j.start)
    size = shape[0] * shape[1] * shape[2]
    delta_S, delta_T, slope = (tile[:size].view(shape) for tile in tiles)
    torch.sub(preds_S[:, i, None], preds_S[:, None, j], out=delta_S)
    torch.sub(preds_T[:, i, None], preds_T[:, None, j], out=delta_T)

    # Subtract first, scale after: k * s rounded to float32 would cost digits of the difference.
    if surrogate == 'diffkendall':
        ordering = delta_S.mul_(delta_T).mul_(steepness).tanh_()
        weight = delta_T
        agreement = ordering.sum(dim=(1, 2))
    else:
        ordering = delta_S.mul_(steepness).tanh_()
        weight = (
            delta_T.sign_() if surrogate == 'hard_teacher' else delta_T.mul_(steepness).tanh_()
        )
        # Not one dot product: among tied logits its float32 would be rounded alike each time.
        agreement = torch.mul(weight, ordering, out=slope).sum(dim=2).sum(dim=1)

    mirrored = 1 if i == j else 2
    total.add_(agreement, alpha=mirrored)
    if grad is None:
        return
    torch.ops.aten.tanh_backward.grad_input(weight, ordering, grad_input=slope)
    grad[:, i].add_(slope.sum(dim=2))
    if i != j:
        grad[:, j].sub_(slope.sum(dim=1))

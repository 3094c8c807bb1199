"""Rows in which one of the two logits hardly varies, in O(C): ``eager`` and ``numba`` share it.

There all pairs have a tanh other than +-1, so that neither order nor a window helps. But within a
narrow range tanh(u - w) is a polynomial in w to within rounding, given by its values at a few
nodes: with x the logit that varies and L_q the polynomial that is 1 at node q and 0 at the others,

    sum_j tanh(x_i - x_j) tanh(u_i - u_j) = sum_q tanh(u_i - node_q) sum_j tanh(x_i - x_j) L_q(u_j)

What remains is a sum over j of a function of x_i - x_j alone, for a few weights. Its far terms are
+-1 or 0. For the near ones x is put into cells of width 1, in each of which polynomials serve once
more, for the target and for the source.

A row may have a few other classes beside: most classes of a teacher that knows few of them, or of
a masked vocabulary, are tied at the lowest logit. Pairs with the others are computed one by one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

# k times the range up to which a row is flat.
FLAT_RANGE = 0.5
# By whether the dtype is float64: nodes of a flat range, of a cell, and the cells to each side
# beyond which tanh is +-1.
PRECISION = {False: (7, 12, 10), True: (14, 22, 20)}
# The classes that may be others are one of so many.
SHARE_OF_OTHERS = 8
# Pairs with others that are computed at once.
TILE_ELEMENTS = 1 << 18


def in_parts(
    rank_loss: Callable[..., tuple[Tensor, Tensor]],
    preds_S: Tensor,
    preds_T: Tensor,
    steepness: float,
    surrogate: str,
    need_grad: bool,
    compute_value: bool,
    average: bool,
) -> tuple[Tensor, Tensor] | None:
    """What ``rank_loss`` gives, which computes neither flat rows nor those that are not finite.

    ``None`` where there is no such row.
    """
    flat, left_out = flat_or_not_finite(preds_S, preds_T, steepness, surrogate)
    if not bool((left_out | flat).any()):
        return None
    losses = preds_S.new_full(preds_S.shape[:1], math.nan)
    grad = torch.full_like(preds_S, math.nan) if need_grad else preds_S.new_empty(0)
    if bool(flat.any()):
        part = flat_rows(preds_S[flat], preds_T[flat], steepness, surrogate, compute_value)
        losses[flat] = part[0]
        if need_grad:
            grad[flat] = part[1]
    others = ~(flat | left_out)
    if bool(others.any()):
        part = rank_loss(
            preds_S[others], preds_T[others], steepness, surrogate, need_grad, compute_value
        )
        losses[others] = part[0]
        if need_grad:
            grad[others] = part[1]
    return (losses.mean(), grad / len(losses)) if average else (losses, grad)


def ends_of_rows(preds_S: Tensor, preds_T: Tensor) -> Tensor:
    """The lowest and the highest logit of the student's rows and of the teacher's, (4, N).

    NaN where a row holds one.
    """
    return torch.stack(
        [end(1) for preds in (preds_S, preds_T) for end in (preds.amin, preds.amax)]
    )


def mostly_tied(preds: Tensor, low: Tensor) -> Tensor:
    """Which rows (N, C) have most classes at their lowest logit, ``low`` (N,): (N,) bool."""
    # As numbers of this dtype, which add up several times as fast as bools.
    differs = torch.ne(preds, low[:, None], out=torch.empty_like(preds))
    return differs.sum(dim=1) <= preds.shape[1] / SHARE_OF_OTHERS


def flat_or_not_finite(
    preds_S: Tensor, preds_T: Tensor, steepness: float, surrogate: str
) -> tuple[Tensor, Tensor]:
    """Which of the rows (N, C) ``flat_rows`` takes, and which are not finite: (N,) bool each."""
    ends = ends_of_rows(preds_S, preds_T)
    flat = mostly_tied(preds_S, ends[0]) | mostly_tied(preds_T, ends[2])
    ends = ends.double()
    not_finite = (ends - ends).sum(dim=0).isnan()
    ranges = (ends[1::2] - ends[::2]) * steepness
    if surrogate == 'diffkendall':
        flat |= (ranges == 0).any(dim=0)
    elif surrogate == 'hard_teacher':
        flat |= (ranges[0] < FLAT_RANGE) | (ranges[1] == 0)
    else:
        flat |= (ranges < FLAT_RANGE).any(dim=0)
    return flat & ~not_finite, not_finite


def _others(student: Tensor, teacher: Tensor, steepness: float, surrogate: str) -> Tensor | None:
    """Which classes (C,) are not in a row's flat part, or None where all are."""
    varies_S, varies_T = student != student.min(), teacher != teacher.min()
    if surrogate == 'diffkendall':
        whole = not (varies_S.any() and varies_T.any())
    else:
        range_S, range_T = (
            steepness * float(row.max().double() - row.min().double())
            for row in (student, teacher)
        )
        narrow = range_S if surrogate == 'hard_teacher' else min(range_S, range_T)
        whole = narrow < FLAT_RANGE or range_T == 0
    return None if whole else min(varies_S, varies_T, key=Tensor.sum)


def _flat_row(
    student: Tensor, teacher: Tensor, steepness: float, surrogate: str, compute_value: bool
) -> tuple[float, Tensor]:
    """The agreement of all ordered pairs of a flat row (C,), and its gradient in k s_i."""
    is_double = student.dtype == torch.float64
    student, teacher = student.double(), teacher.double()
    range_S, range_T = (float(row.max() - row.min()) for row in (student, teacher))
    if range_T == 0:
        return 0.0, torch.zeros_like(student)
    if surrogate == 'diffkendall':
        return 0.0, len(teacher) * teacher - teacher.sum()
    nodes_flat, nodes_cell, reach = PRECISION[is_double]
    student_is_flat = surrogate == 'hard_teacher' or range_S <= range_T
    flat, other = (student, teacher) if student_is_flat else (teacher, student)
    flat = (flat - (flat.max() + flat.min()) / 2) * steepness
    half = float(flat.max())
    nodes, weights = flat.new_zeros(1), flat.new_ones(len(flat), 1)
    if half > 0:
        nodes = half * _nodes(nodes_flat).to(flat.device)
        weights = _polynomials(flat / half, nodes_flat)
    ordering = torch.tanh(flat[:, None] - nodes)

    def sums(function: Callable[[Tensor], Tensor], end: float) -> Tensor:
        if surrogate == 'hard_teacher':
            return _signed_sums(other, weights)
        return _near_sums(other * steepness, weights, function, end, nodes_cell, reach)

    def slope(x: Tensor) -> Tensor:
        return 1 - torch.tanh(x).square()

    if student_is_flat:
        against = sums(torch.tanh, 1.0)
        value = float((ordering * against).sum()) if compute_value else 0.0
        return value, ((1 - ordering.square()) * against).sum(dim=1)
    value = float((ordering * sums(torch.tanh, 1.0)).sum()) if compute_value else 0.0
    return value, (ordering * sums(slope, 0.0)).sum(dim=1)


def flat_rows(
    preds_S: Tensor, preds_T: Tensor, steepness: float, surrogate: str, compute_value: bool
) -> tuple[Tensor, Tensor]:
    """Losses (N,) and gradients (N, C) of rows that are flat by ``flat_or_not_finite``."""
    pairs = preds_S.shape[1] * (preds_S.shape[1] - 1)
    losses, grad = preds_S.new_zeros(preds_S.shape[0]), torch.empty_like(preds_S)
    for row, (student, teacher) in enumerate(zip(preds_S, preds_T, strict=True)):
        options = (steepness, surrogate, compute_value)
        others = _others(student, teacher, steepness, surrogate)
        if others is None:
            value, slopes = _flat_row(student, teacher, *options)
        else:
            value, slopes = _pairs_of(others, student, teacher, *options)
            part, slopes_within = _flat_row(student[~others], teacher[~others], *options)
            value += part
            slopes[~others] += slopes_within
        if compute_value:
            losses[row] = 1 - value / pairs
        grad[row] = slopes * (-2 * steepness / pairs)
    return losses, grad


def _pairs_of(
    others: Tensor,
    student: Tensor,
    teacher: Tensor,
    steepness: float,
    surrogate: str,
    compute_value: bool,
) -> tuple[float, Tensor]:
    """The part of the others' pairs in the sum over all ordered pairs, and in its gradient."""
    few = others.nonzero().squeeze(1)
    # A pair of two others comes up in both orders, one with another class once.
    weights = 2 - others.double()
    value, slopes = 0.0, torch.zeros_like(student, dtype=torch.float64)
    rows = max(1, min(len(few), TILE_ELEMENTS // len(student)))
    for part in few.split(rows):
        delta_S = student[part, None] - student
        delta_T = teacher[part, None] - teacher
        if surrogate == 'diffkendall':
            ordering = agreement = torch.tanh(steepness * (delta_S * delta_T))
            weight = delta_T
        else:
            ordering = torch.tanh(steepness * delta_S)
            weight = (
                delta_T.sign() if surrogate == 'hard_teacher' else torch.tanh(steepness * delta_T)
            )
            agreement = weight * ordering
        slope = weight * (1 - ordering.square())
        slopes[part] += slope.sum(dim=1)
        slopes -= slope.sum(dim=0).masked_fill(others, 0)
        if compute_value:
            value += float(agreement.sum(dim=0).double() @ weights)
    return value, slopes


def _nodes(count: int) -> Tensor:
    """Chebyshev's nodes in (-1, 1)."""
    return torch.cos((torch.arange(count, dtype=torch.float64) + 0.5) * (math.pi / count))


def _polynomials(x: Tensor, count: int) -> Tensor:
    """(C, count) at x (C,) in [-1, 1]: the polynomials that are 1 at one node, 0 at the others."""
    degrees = torch.arange(count, dtype=torch.float64)
    at_nodes = torch.cos(degrees[:, None] * torch.arccos(_nodes(count))) * (2 / count)
    at_nodes[0] /= 2
    at_x = torch.cos(torch.arccos(x.clamp(-1, 1))[:, None] * degrees.to(x.device))
    return at_x @ at_nodes.to(x.device)


def _signed_sums(x: Tensor, weights: Tensor) -> Tensor:
    """Sum over j of sign(x_i - x_j) times the weights (C, Q) of j."""
    values, place = x.unique(return_inverse=True)
    totals = weights.new_zeros(len(values), weights.shape[1]).index_add_(0, place, weights)
    up_to = totals.cumsum(dim=0)
    return (2 * up_to - totals - up_to[-1])[place]


def _near_sums(
    x: Tensor,
    weights: Tensor,
    function: Callable[[Tensor], Tensor],
    end: float,
    count: int,
    reach: int,
) -> Tensor:
    """Sum over j of function(x_i - x_j) times the weights (C, Q) of j.

    Args:
        x: (C,) float64.
        weights: (C, Q).
        function: smooth; +-``end`` beyond ``reach``.
        end: 1 for tanh, 0 for its slope.
        count: nodes of a cell.
        reach: cells to each side whose function is neither.
    """
    x = x - x.min()
    # A row that is flat in both logits lies in one cell, of its own width: no digit is lost.
    width = min(float(x.max()), 1.0) or 1.0
    x = x / width
    cells, place = x.floor().unique(return_inverse=True)
    polynomials = _polynomials(2 * (x - x.floor()) - 1, count)
    sources = weights.new_zeros(len(cells), count, weights.shape[1])
    for column in range(weights.shape[1]):
        sources[..., column].index_add_(0, place, polynomials * weights[:, column, None])
    nodes = _nodes(count).to(x.device) / 2
    targets = torch.zeros_like(sources)
    for distance in range(-reach, reach + 1):
        wanted = cells - distance
        found = torch.searchsorted(cells, wanted).clamp(max=len(cells) - 1)
        # A number that is too large for a step of 1 is no neighbour of itself.
        hit = (cells[found] == wanted) & ((wanted != cells) | (distance == 0))
        kernel = function(width * (distance + nodes[:, None] - nodes))
        targets[hit] += kernel @ sources[found[hit]]
    result = torch.stack(
        [(polynomials * column[place]).sum(dim=1) for column in targets.unbind(dim=2)], dim=1
    )
    if end:
        totals = sources.sum(dim=1)
        up_to = torch.cat((torch.zeros_like(totals[:1]), totals.cumsum(dim=0)))
        before = up_to[torch.searchsorted(cells, cells - reach)]
        after = up_to[-1] - up_to[torch.searchsorted(cells, cells + reach, right=True)]
        result += end * (before - after)[place]
    return result

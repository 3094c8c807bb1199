"""Scores that say the order of the classes and nothing else."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mmkendall.functional.checks import at_least_float32, check_positive
from mmkendall.functional.classes import check_class_mask
from mmkendall.functional.ties import first_of_equals


@torch.no_grad()
def order_scores(
    scores: Tensor, spread: float = 1.0, dim: int = 1, class_mask: Tensor | None = None
) -> Tensor:
    r"""Normal scores of the ranks: what a teacher of any kind says of the order, as logits.

    .. math::
        z_c = \text{spread} \cdot \Phi^{-1}\!\left(\frac{r_c - 1/2}{C}\right)

    with :math:`r_c` the rank of class c among the C classes of its row, 1 for the lowest score and
    C for the highest, and :math:`\Phi^{-1}` the quantile function of the standard normal
    distribution. Tied classes share the mean of their ranks. Any loss on logits then sees the
    order alone: every map of the scores that keeps the order gives the same result.

    Source: the rank-based inverse normal transformation
    :math:`\Phi^{-1}((r - a) / (C - 2a + 1))` of Blom, "Statistical Estimates and Transformed
    Beta-Variables", Wiley 1958, whose own choice is a = 3/8. Here a = 1/2.

    Args:
        scores: the teacher's, floating point or integers, with the classes in ``dim``. Minus
            infinity is a score like any other, the lowest: such classes are last and tied.
        spread: factor on the normal scores, above 0. Without ties the standard deviation of a row
            of many classes is about the spread, that of ten classes 0.94 times the spread. A loss
            at temperature T sees spread / T.
        dim: the dimension of the classes.
        class_mask: bool, (C,) or the shape of ``scores``: which classes count. The others,
            whatever they hold, are left out of the ranking and become minus infinity. Defaults to
            None, all.

    Cost:
        O(C log C) time and O(C) memory a row: one sort.

    Returns:
        The shape of ``scores``; float64 for float64, else float32. A row with a NaN or a plus
        infinity among the classes that count is NaN. A constant row, one class too, is 0. There is
        no gradient, as ranks have none.

    Raises:
        TypeError: not a tensor, complex or bool, or a ``class_mask`` that is not bool.
        ValueError: a spread out of its range, no such ``dim``, or a ``class_mask`` that does not
            fit.

    Example:
        >>> import torch
        >>> votes = torch.tensor([[0, 7, 0, 1]])
        >>> [round(score, 3) for score in order_scores(votes)[0].tolist()]
        [-0.674, 1.15, -0.674, 0.319]
    """
    check_positive(spread=spread)
    if not isinstance(scores, Tensor):
        raise TypeError(f'scores must be a torch.Tensor, got {type(scores).__name__}')
    if scores.is_complex() or scores.dtype == torch.bool:
        raise TypeError(f'scores must hold numbers that have an order, got {scores.dtype}')
    if not -scores.dim() <= dim < scores.dim():
        raise ValueError(f'dim={dim} is not a dimension of scores of shape {tuple(scores.shape)}')
    dim %= scores.dim()
    check_class_mask(class_mask, scores, dim)
    # float32 would make ties of integers beyond 2**24.
    rows = at_least_float32(scores) if scores.is_floating_point() else scores.double()
    result = torch.float64 if scores.dtype == torch.float64 else torch.float32
    if rows.shape[dim] == 0:
        return rows.to(result)

    rows = rows.movedim(dim, -1)
    poison = rows.isnan() | (rows == math.inf)
    number = rows.new_full((), rows.shape[-1])
    counts = None
    if class_mask is not None:
        counts = class_mask if class_mask.dim() == 1 else class_mask.movedim(dim, -1)
        poison = poison & counts
        number = counts.sum(dim=-1, keepdim=True).clamp(min=1).to(rows.dtype)
        rows = rows.masked_fill(~counts, math.inf)  # Behind all that count.
    below = _mean_places(rows).to(result) + 0.5
    # Of the nearer end: close to 1 a share would be rounded, close to 0 it is not.
    above = number.to(result) - below
    share = torch.minimum(below, above) / number.to(result)
    normal = torch.special.ndtri(share.clamp(min=0)) * torch.where(below > above, -1.0, 1.0)
    normal = (spread * normal).masked_fill(poison.any(dim=-1, keepdim=True), math.nan)
    if counts is not None:
        normal = normal.masked_fill(~counts, -math.inf)
    return normal.to(result).movedim(-1, dim)


def _mean_places(rows: Tensor) -> Tensor:
    """The place of each element in its sorted row, from 0; equal elements share their mean."""
    ordered, order = rows.sort(dim=-1)
    first = first_of_equals(ordered)
    last = rows.shape[-1] - 1 - first_of_equals(ordered.flip(-1)).flip(-1)
    mean = (first + last) / 2
    return torch.zeros_like(mean).scatter(-1, order, mean)

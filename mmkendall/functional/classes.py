"""Which classes of a row count, and what a teacher's minus infinity means."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

# tanh is 1 from here on, in float64 too.
SATURATED = 20.0


def check_bool_mask(name: str, mask: Tensor, preds: Tensor) -> None:
    """Raises TypeError or ValueError unless a mask is a bool tensor where the logits are."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        came = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f'{name} must be a bool tensor, got {came}')
    if mask.device != preds.device:
        raise ValueError(f'{name} must be on {preds.device}, as the logits are, got {mask.device}')


def check_class_mask(class_mask: Tensor | None, preds: Tensor, dim: int) -> None:
    """Raises TypeError or ValueError unless it is bool and says of each class whether it counts.

    Args:
        class_mask: what came, or None.
        preds: the logits.
        dim: the dimension of the classes in ``preds``, not negative.
    """
    if class_mask is None:
        return
    check_bool_mask('class_mask', class_mask, preds)
    # Logits of one row alone have both shapes in one.
    if class_mask.shape not in (preds.shape, preds.shape[dim : dim + 1]):
        raise ValueError(
            f'class_mask must be of shape ({preds.shape[dim]},), one entry a class, or '
            f'{tuple(preds.shape)} as the logits, got {tuple(class_mask.shape)}'
        )


def counted_classes(rows_S: Tensor, rows_T: Tensor) -> Tensor:
    """(N, C) bool: every class but those that are minus infinity in both logits."""
    return (rows_S != -math.inf) | (rows_T != -math.inf)


def made_finite(rows_S: Tensor, rows_T: Tensor, steepness: float) -> tuple[Tensor, Tensor, Tensor]:
    """Rows without what minus infinity stands for, and which of their classes count.

    Args:
        rows_S: (N, C) student logits.
        rows_T: (N, C) teacher logits.
        steepness: k.

    Returns:
        Both logits, 0 where a class does not count. A class that counts and is minus infinity in
        the teacher alone gets a teacher's logit 20 / k below the row's lowest finite one, where
        tanh is saturated. NaN, plus infinity and a student's own minus infinity stay. Then which
        classes count, (N, C) bool.
    """
    counts = counted_classes(rows_S, rows_T)
    is_last = rows_T == -math.inf
    lowest = rows_T.detach().masked_fill(is_last, math.inf).amin(dim=1, keepdim=True)
    lowest = lowest.masked_fill(lowest == math.inf, 0)
    # The second term keeps the distance where rounding would take the first away.
    limits = torch.finfo(rows_T.dtype)
    last = lowest - SATURATED / steepness - 32 * limits.eps * lowest.abs()
    last = last.clamp(min=limits.min)
    rows_S = rows_S.masked_fill(~counts, 0)
    rows_T = torch.where(is_last, last, rows_T).masked_fill(~counts, 0)
    return rows_S, rows_T, counts


def rows_by_size(counts: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Rows that have equally many classes which count, so that these make one matrix.

    Args:
        counts: (N, C) bool, the classes that count.

    Yields:
        How many classes, n; the rows (R,); their classes (R, n), in the order of the columns.
    """
    sizes = counts.sum(dim=1)
    for size in sizes.unique().tolist():
        rows = (sizes == size).nonzero().squeeze(1)
        yield size, rows, counts[rows].nonzero()[:, 1].view(len(rows), size)

"""Rows and classes that do not count, for the losses on logits (N, C)."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from mmkendall.functional.checks import at_least_float32
from mmkendall.functional.classes import check_bool_mask, check_class_mask, counted_classes


class Counted(NamedTuple):
    """Logits of which only some rows and classes count.

    Attributes:
        student: logits (N, C), float32 or better. Minus infinity where a class does not
            count, and 0 in all of a row that does not count, so that what is computed of it is
            finite.
        teacher: the same of the teacher.
        classes: which classes count, (N, C) bool; all of them in a row that does not count.
        rows: which rows count, (N,) bool.
    """

    student: Tensor
    teacher: Tensor
    classes: Tensor
    rows: Tensor

    def reduced(self, losses: Tensor, reduction: str) -> Tensor:
        """Losses of the rows (N,), 0 where a row does not count; their sum; or their mean."""
        losses = losses.masked_fill(~self.rows, 0)
        if reduction == 'mean':
            return losses.sum() / self.rows.sum().clamp(min=1)
        return losses.sum() if reduction == 'sum' else losses


def counted(
    preds_S: Tensor, preds_T: Tensor, mask: Tensor | None, class_mask: Tensor | None
) -> Counted:
    """What counts of logits (N, C).

    A class does not count where ``class_mask`` is False, or where it is minus infinity in both
    logits. A row does not count where ``mask`` is False, or where fewer than two of its classes
    count: one class alone has neither an order nor a distribution to learn. What does not count
    may hold anything, a NaN too, and gets no gradient.

    Args:
        preds_S: student logits, (N, C).
        preds_T: teacher logits, the same shape.
        mask: bool, (N,), or None.
        class_mask: bool, (C,) or (N, C), or None.

    Raises:
        TypeError, ValueError: a mask that is not bool or does not fit the logits.
    """
    check_row_mask(mask, preds_S)
    check_class_mask(class_mask, preds_S, 1)
    rows_S, rows_T = at_least_float32(preds_S), at_least_float32(preds_T)
    if class_mask is not None:
        rows_S, rows_T = (rows.masked_fill(~class_mask, -math.inf) for rows in (rows_S, rows_T))
    classes = counted_classes(rows_S, rows_T)
    rows = classes.sum(dim=1) > 1
    if mask is not None:
        rows = rows & mask
    absent = ~rows.unsqueeze(1)
    rows_S, rows_T = rows_S.masked_fill(absent, 0), rows_T.masked_fill(absent, 0)
    return Counted(rows_S, rows_T, classes | absent, rows)


def check_row_mask(mask: Tensor | None, preds: Tensor) -> None:
    """Raises TypeError or ValueError unless it is bool and says of each row whether it counts."""
    if mask is None:
        return
    check_bool_mask('mask', mask, preds)
    if mask.shape != preds.shape[:1]:
        raise ValueError(
            f'mask must hold one entry a row, ({len(preds)},), got {tuple(mask.shape)}'
        )

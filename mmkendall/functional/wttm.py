"""Weighted transformed teacher matching."""

from __future__ import annotations

from torch import Tensor

from mmkendall.functional.checks import (
    check_positive,
    check_reduction,
    check_same_shape,
    kl_divergence,
    log_softmax,
)
from mmkendall.functional.masks import counted


def wttm_loss(
    preds_S: Tensor,
    preds_T: Tensor,
    temperature: float = 5.0,
    reduction: str = 'mean',
    *,
    mask: Tensor | None = None,
    class_mask: Tensor | None = None,
) -> Tensor:
    r"""Weighted transformed teacher matching: KD whose temperature is the teacher's alone.

    With :math:`p = \mathrm{softmax}(t)`, :math:`q = \mathrm{softmax}(s)` and
    :math:`\gamma = 1 / T`,

    .. math::
        L = \left(\sum_c p_c^\gamma\right) \mathrm{KL}\left(
        \frac{p^\gamma}{\sum_c p_c^\gamma} \,\|\, q \right)

    The power of the teacher's probabilities is their softmax at temperature T. For T above 1 the
    weight in front lies between 1, for a teacher that is certain, and :math:`C^{1-\gamma}`, for
    one that knows nothing: images on which the teacher is smoother count for more. It grows with
    the number of classes, so a ``loss_weight`` of a data set does not fit one with more classes.

    Source: Zheng and Yang, "Knowledge Distillation Based on Transformed Teacher Matching", ICLR
    2024, arXiv 2402.11148, and the authors' published code, whose value it is.

    A class does not count where ``class_mask`` is False, whatever its logits are, or where it is
    minus infinity in both logits. A row in which fewer than two classes count does not count. A
    class that is minus infinity in the teacher alone has the probability 0 there and adds nothing
    to the divergence. Equal logits are nothing special. The loss does not see a shift of either
    logits, but it sees their scale.

    Args:
        preds_S: student logits, (N, C), C of 2 at least. float16, bfloat16, float32 or float64;
            the computation is float32 or better.
        preds_T: teacher logits, the same shape. They get a gradient only when they require one.
        temperature: T > 0, of the teacher. Defaults to 5, the exponent of 0.2 that the authors'
            README has in its example.
        reduction: ``'none'``, ``'mean'`` over the rows that count, or ``'sum'``.
        mask: bool, (N,): which rows count. The others give 0 under ``'none'`` and no gradient.
        class_mask: bool, (C,) or (N, C): which classes count. The others get no gradient.

    Returns:
        Scalar, 0 where no row counts; (N,) under ``'none'``. float64 for float64, else float32. A
        class that is minus infinity in the student alone gives infinity.

    Raises:
        TypeError: a mask that is not a bool tensor.
        ValueError: an option out of its range, shapes that don't fit, or a single class.

    Cost:
        O(N C) time and memory.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[2.0, 1.0, 0.0]])
        >>> round(wttm_loss(logits, logits, temperature=1.0).item(), 6)
        0.0
        >>> round(wttm_loss(logits, logits.flip(1)).item(), 4)
        1.043
    """
    check_positive(temperature=temperature)
    check_reduction(reduction)
    check_same_shape(preds_S, preds_T)
    rows = counted(preds_S, preds_T, mask, class_mask)
    log_S = log_softmax(rows.student, 1.0)
    log_T = log_softmax(rows.teacher, temperature)
    weights = (log_softmax(rows.teacher, 1.0) / temperature).exp().sum(dim=1)
    return rows.reduced(weights * kl_divergence(log_S, log_T), reduction)

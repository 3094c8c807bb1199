"""Losses on a whole order: the likelihood of the teacher's order under the student's logits."""

from __future__ import annotations

import math
from numbers import Integral

import torch
from torch import Tensor

from mmkendall.functional.checks import (
    check_labels,
    check_positive,
    check_reduction,
    check_same_shape,
    log_softmax,
)
from mmkendall.functional.masks import Counted, counted
from mmkendall.functional.ties import first_of_equals


def pld_loss(
    preds_S: Tensor,
    preds_T: Tensor,
    gt_labels: Tensor | None = None,
    temperature: float = 1.0,
    topk: int | None = None,
    reduction: str = 'mean',
    *,
    mask: Tensor | None = None,
    class_mask: Tensor | None = None,
) -> Tensor:
    r"""Plackett-Luce distillation: the label first, then the classes in the teacher's order.

    With :math:`\pi` the label followed by the other classes by descending teacher logit,

    .. math::
        L = \sum_{k=1}^{C} \mathrm{softmax}(t / T)_{\pi_k} \left(
        \log \sum_{l \ge k} \exp s_{\pi_l} - s_{\pi_k} \right)

    Read from the first place on, a student that obeys the Plackett-Luce model picks the best class
    among all, then the best among the rest, and so on. The loss is the negative log-likelihood of
    the teacher's picks, each weighted by the probability that the teacher gives to the picked
    class. The first term is a cross-entropy with the label, so the loss needs none beside it.

    Source: Bassam, Zhu and Bian, "PLD: A Choice-Theoretic List-Wise Knowledge Distillation",
    NeurIPS 2025, arXiv 2506.12542. The treatment of ties, ``temperature``, ``topk``, the masks and
    the order without labels are ours.

    A class does not count where ``class_mask`` is False, whatever its logits are, or where it is
    minus infinity in both logits. A row in which fewer than two classes count does not count. A
    class that is minus infinity in the teacher alone has no weight and no place of its own: it is
    behind all others. Equal teacher logits share a place: the sum of each goes over all classes of
    that place and of those behind it (Breslow's treatment of ties), so the order of the columns
    does not matter, and the loss is least where the student's logits are equal, too. With
    ``topk``, which of the equal classes at the cut are taken is not said. The loss does not see a
    shift of the student's logits, but it sees their scale.

    Args:
        preds_S: student logits, (N, C), C of 2 at least. float16, bfloat16, float32 or float64;
            the computation is float32 or better.
        preds_T: teacher logits, the same shape. They get a gradient, through the weights alone,
            only when they require one.
        gt_labels: the target classes, (N,), int64. None for the teacher's own order.
        temperature: T > 0, of the teacher's weights alone. Defaults to 1, the paper's; with a
            large one all places weigh the same, as in :func:`listmle_loss`.
        topk: only the terms of the first so many places, 1 at least and C at most. The classes
            behind them still stand in the sums of those terms. Defaults to None, all.
        reduction: ``'none'``, ``'mean'`` over the rows that count, or ``'sum'``.
        mask: bool, (N,): which rows count. The others give 0 under ``'none'`` and no gradient.
        class_mask: bool, (C,) or (N, C): which classes count. The others get no gradient.

    Returns:
        Scalar, 0 where no row counts; (N,) under ``'none'``. float64 for float64, else float32. A
        row gives NaN if its label does not count, if a class that counts is NaN or plus infinity
        in either logits, or if the teacher is minus infinity everywhere; NaN or infinity if a
        class that counts is minus infinity in the student alone.

    Raises:
        TypeError: a mask that is not a bool tensor.
        ValueError: an option out of its range, shapes that don't fit, or a single class.

    Cost:
        O(N C log C) time, of which the sorting is the logarithm, and O(N C) memory.

    Example:
        >>> import torch
        >>> student = torch.tensor([[2.0, 1.0, 0.0]])
        >>> teacher = torch.tensor([[4.0, 2.0, 0.0]])
        >>> round(pld_loss(student, teacher, torch.tensor([0])).item(), 4)
        0.3901
        >>> round(pld_loss(student, -teacher, torch.tensor([2])).item(), 4)
        2.241
    """
    check_positive(temperature=temperature)
    rows = _checked(preds_S, preds_T, gt_labels, topk, reduction, mask, class_mask)
    terms, order, _ = _terms(rows, gt_labels, topk)
    weights = log_softmax(rows.teacher, temperature).exp().gather(1, order)
    return rows.reduced((weights * terms).sum(dim=1), reduction)


def listmle_loss(
    preds_S: Tensor,
    preds_T: Tensor,
    gt_labels: Tensor | None = None,
    topk: int | None = None,
    reduction: str = 'mean',
    *,
    mask: Tensor | None = None,
    class_mask: Tensor | None = None,
) -> Tensor:
    r"""ListMLE: the likelihood of the teacher's order, all places alike.

    With :math:`\pi` the classes by descending teacher logit and K the number of places,

    .. math::
        L = \frac{1}{K} \sum_{k=1}^{K} \left( \log \sum_{l \ge k} \exp s_{\pi_l} - s_{\pi_k}
        \right)

    Source: Xia et al., "Listwise Approach to Learning to Rank: Theory and Algorithm", ICML 2008,
    which sums over the places. Here it is their mean, so that a weight fits any number of them;
    ``loss * K`` is the paper's. It reads nothing but the order of the teacher's logits, so any
    scores will do: votes, cosines, logits of any scale.

    What counts, ties and infinities are those of :func:`pld_loss`. A class that is minus infinity
    in the teacher alone has no place, and is not among the K: where only a teacher's highest
    scores are known, fill the others with minus infinity, and not with equal numbers, which would
    teach the student that those classes are equal.

    Args:
        preds_S: student logits, (N, C), C of 2 at least. float16, bfloat16, float32 or float64;
            the computation is float32 or better.
        preds_T: the teacher's scores, the same shape. They get no gradient.
        gt_labels: the target classes, (N,), int64, to be put before all others. Defaults to None,
            the teacher's own order.
        topk: only the terms of the first so many places, 1 at least and C at most. The classes
            behind them still stand in the sums of those terms, as those of which only this is
            known: that they are behind. Defaults to None, all.
        reduction: ``'none'``, ``'mean'`` over the rows that count, or ``'sum'``.
        mask: bool, (N,): which rows count. The others give 0 under ``'none'`` and no gradient.
        class_mask: bool, (C,) or (N, C): which classes count. The others get no gradient.

    Returns:
        Scalar, 0 where no row counts; (N,) under ``'none'``. float64 for float64, else float32.
        NaN and infinity as in :func:`pld_loss`, but a row of which the teacher knows nothing,
        minus infinity everywhere, is 0.

    Raises:
        TypeError: a mask that is not a bool tensor.
        ValueError: an option out of its range, shapes that don't fit, or a single class.

    Cost:
        O(N C log C) time, of which the sorting is the logarithm, and O(N C) memory.

    Example:
        >>> import math, torch
        >>> student = torch.zeros(1, 4)
        >>> teacher = torch.tensor([[3.0, 1.0, 0.0, -2.0]])
        >>> round(listmle_loss(student, teacher).item() * 4, 4) == round(math.log(24), 4)
        True
    """
    rows = _checked(preds_S, preds_T, gt_labels, topk, reduction, mask, class_mask)
    terms, _, has_place = _terms(rows, gt_labels, topk)
    weights = has_place.to(terms.dtype) / has_place.sum(dim=1, keepdim=True).clamp(min=1)
    return rows.reduced((weights * terms).sum(dim=1), reduction)


def check_topk(topk: int | None) -> None:
    """Raises ValueError for what is no number of places, whatever the logits will be."""
    if topk is not None and (not isinstance(topk, Integral) or isinstance(topk, bool) or topk < 1):
        raise ValueError(f'topk must be an integer of 1 at least, or None for all, got {topk!r}')


def _checked(
    preds_S: Tensor,
    preds_T: Tensor,
    gt_labels: Tensor | None,
    topk: int | None,
    reduction: str,
    mask: Tensor | None,
    class_mask: Tensor | None,
) -> Counted:
    """What counts of the logits, or an error for what does not fit."""
    check_topk(topk)
    check_reduction(reduction)
    check_same_shape(preds_S, preds_T)
    if topk is not None and topk > preds_S.shape[1]:
        raise ValueError(
            f'topk={topk} classes were asked for, but the logits have {preds_S.shape[1]}'
        )
    if gt_labels is not None:
        check_labels(gt_labels, preds_S)
    return counted(preds_S, preds_T, mask, class_mask)


def _terms(
    rows: Counted, gt_labels: Tensor | None, topk: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The negative log-likelihood of the pick of each place, before any weight.

    Returns:
        (N, K) terms, NaN in a row of which nothing can be said; (N, K) the class of each place;
        (N, K) bool, whether the place counts.
    """
    student, teacher, classes, is_row = rows
    key = teacher.detach()
    wrong = (classes & (key.isnan() | (key == math.inf))).any(dim=1)
    if gt_labels is not None:
        # A row that does not count may have a label that is none, like the -100 of many data sets.
        label = gt_labels.masked_fill(~is_row, 0).unsqueeze(1)
        wrong = wrong | ~classes.gather(1, label).squeeze(1)
        key = key.scatter(1, label, math.inf)
    key, order = key.masked_fill(~classes, -math.inf).sort(dim=1, descending=True)
    # Its exponential is nothing beside that of any logit, and unlike minus infinity it has a
    # gradient of zero and not of NaN.
    lowest = torch.finfo(student.dtype).min
    picked = student.masked_fill(~classes, lowest).gather(1, order)
    rest = picked.flip(1).logcumsumexp(dim=1).flip(1)
    terms = rest.gather(1, first_of_equals(key)) - picked
    has_place = key > -math.inf
    terms = terms.masked_fill(~has_place, 0).masked_fill(wrong.unsqueeze(1), math.nan)
    return terms[:, :topk], order[:, :topk], has_place[:, :topk]

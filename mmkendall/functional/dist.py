"""DIST: correlations of classes and of images, of probabilities or of logits."""

from __future__ import annotations

import torch
from torch import Tensor

from mmkendall.functional.checks import (
    at_least_float32,
    check_not_negative,
    check_positive,
    check_same_shape,
    log_softmax,
    mean_over_rows,
)
from mmkendall.functional.classes import counted_classes
from mmkendall.functional.standardize import standardize

# As in the authors' published code: a constant row has no correlation, and its gradient is finite.
EPS = 1e-8


def dist_loss(
    preds_S: Tensor,
    preds_T: Tensor,
    inter_weight: float = 1.0,
    intra_weight: float = 1.0,
    temperature: float = 1.0,
) -> Tensor:
    r"""DIST: Pearson's correlation of the classes of an image, and of the images of a class.

    With :math:`p` the softmax at temperature T, (N, C), and :math:`\rho` the correlation,

    .. math::
        L = T^2 \left( \frac{\beta}{N} \sum_n (1 - \rho(p^S_{n,:}, p^T_{n,:}))
        + \frac{\gamma}{C} \sum_c (1 - \rho(p^S_{:,c}, p^T_{:,c})) \right)

    Source: Huang et al., "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022; the
    factor :math:`T^2` is that of the authors' published code, and of mmrazor's ``DISTLoss``, of
    which this is the function: its value is the same up to rounding.

    Args:
        preds_S: student logits, (N, C), C of 2 at least, floating point.
        preds_T: teacher logits, the same shape. A class that is minus infinity in both has the
            probability 0 in both.
        inter_weight: :math:`\beta`, 0 at least, of the relation between classes.
        intra_weight: :math:`\gamma`, 0 at least, of the relation within a class.
        temperature: T > 0.

    Returns:
        Scalar; 0 for N = 0. float64 for float64, else float32.

    Raises:
        ValueError: an option out of its range, shapes that don't fit, or a single class.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 2.0, 1.0]], dtype=torch.float64)
        >>> round(dist_loss(logits, logits).item(), 6)
        0.0
    """
    check_positive(temperature=temperature)
    check_not_negative(inter_weight=inter_weight, intra_weight=intra_weight)
    check_same_shape(preds_S, preds_T)
    p_S, p_T = (
        log_softmax(at_least_float32(preds), temperature).exp() for preds in (preds_S, preds_T)
    )
    inter = mean_over_rows(1 - _correlation(p_S, p_T))
    intra = mean_over_rows(1 - _correlation(p_S.T, p_T.T)) if len(p_S) else p_S.sum()
    return temperature**2 * (inter_weight * inter + intra_weight * intra)


def pearson_loss(
    preds_S: Tensor,
    preds_T: Tensor,
    inter_weight: float = 1.0,
    intra_weight: float = 1.0,
) -> Tensor:
    r"""Pearson's correlation as in DIST, of the logits themselves and not of their softmax.

    With :math:`\rho` the correlation,

    .. math::
        L = \frac{\beta}{N} \sum_n (1 - \rho(s_{n,:}, t_{n,:}))
        + \frac{\gamma}{C} \sum_c (1 - \rho(s_{:,c}, t_{:,c}))

    Where :func:`dist_loss` hardly sees the classes of small probability, here all classes weigh
    alike. A shift of either logits and their scale do not matter, so there is no temperature.

    Source: the two Pearson terms of MRKD (https://github.com/ebolk/MonotonicRankDistillation, for
    which no paper was found), after Huang et al., "Knowledge Distillation from A Stronger
    Teacher", NeurIPS 2022.

    A class that is minus infinity in both logits of a row does not count there. A row or a column
    of which fewer than two logits count is left out of its mean, so a batch of one image has the
    first term alone. A row or a column that is constant in either logits has no correlation and
    adds 1, with a gradient that is finite. Equal logits are nothing special.

    Args:
        preds_S: student logits, (N, C), C of 2 at least. float16, bfloat16, float32 or float64;
            the computation is float32 or better.
        preds_T: teacher logits, the same shape. They get a gradient only when they require one.
        inter_weight: :math:`\beta`, 0 at least, of the relation between the classes of an image.
        intra_weight: :math:`\gamma`, 0 at least, of the relation between the images in a class.

    Returns:
        Scalar; 0 for N = 0. float64 for float64, else float32. NaN or infinity if a logit is minus
        infinity in one of the two alone.

    Raises:
        ValueError: an option out of its range, shapes that don't fit, or a single class.

    Cost:
        O(N C) time and memory.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 2.0, 1.0]], dtype=torch.float64)
        >>> round(pearson_loss(3 * logits, logits).item(), 6)
        0.0
        >>> round(pearson_loss(-logits, logits).item(), 6)
        4.0
    """
    check_not_negative(inter_weight=inter_weight, intra_weight=intra_weight)
    check_same_shape(preds_S, preds_T)
    preds_S, preds_T = at_least_float32(preds_S), at_least_float32(preds_T)
    if len(preds_S) == 0:
        return preds_S.sum()
    inter = _mean_distance(preds_S, preds_T)
    return inter_weight * inter + intra_weight * _mean_distance(preds_S.T, preds_T.T)


def _mean_distance(rows_S: Tensor, rows_T: Tensor) -> Tensor:
    """1 - Pearson's correlation of rows (R, n), averaged over those with two logits that count."""
    counts = counted_classes(rows_S, rows_T)
    number = counts.sum(dim=1)
    # The mean of the products of z-scores, which are 0 in a constant row.
    scores_S, scores_T = (standardize(rows).masked_fill(~counts, 0) for rows in (rows_S, rows_T))
    distances = 1 - (scores_S * scores_T).sum(dim=1) / number.clamp(min=1)
    has_pair = number > 1
    return distances.masked_fill(~has_pair, 0).sum() / has_pair.sum().clamp(min=1)


def _correlation(rows_S: Tensor, rows_T: Tensor) -> Tensor:
    """Pearson's correlation of each pair of rows: (R, n) and (R, n) give (R,)."""
    rows_S, rows_T = (rows - rows.mean(dim=1, keepdim=True) for rows in (rows_S, rows_T))
    norms = torch.linalg.vector_norm(rows_S, dim=1) * torch.linalg.vector_norm(rows_T, dim=1)
    return (rows_S * rows_T).sum(dim=1) / (norms + EPS)

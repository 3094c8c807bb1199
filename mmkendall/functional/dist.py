"""DIST: correlations of classes and of images."""

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


def _correlation(rows_S: Tensor, rows_T: Tensor) -> Tensor:
    """Pearson's correlation of each pair of rows: (R, n) and (R, n) give (R,)."""
    rows_S, rows_T = (rows - rows.mean(dim=1, keepdim=True) for rows in (rows_S, rows_T))
    norms = torch.linalg.vector_norm(rows_S, dim=1) * torch.linalg.vector_norm(rows_T, dim=1)
    return (rows_S * rows_T).sum(dim=1) / (norms + EPS)

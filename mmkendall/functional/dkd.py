"""Decoupled knowledge distillation."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mmkendall.functional.checks import (
    at_least_float32,
    check_labels,
    check_not_negative,
    check_positive,
    check_reduction,
    check_same_shape,
    kl_divergence,
    reduced,
)


def dkd_loss(
    preds_S: Tensor,
    preds_T: Tensor,
    gt_labels: Tensor,
    temperature: float = 4.0,
    alpha: float = 1.0,
    beta: float = 8.0,
    reduction: str = 'mean',
) -> Tensor:
    r"""Decoupled knowledge distillation: the target class and the order of the others apart.

    .. math::
        L = T^2 \left(\alpha\, \mathrm{KL}(b^T \| b^S) + \beta\, \mathrm{KL}(\hat p^T \|
        \hat p^S)\right)

    with :math:`b` the softmax's probabilities of the target and of all other classes together,
    and :math:`\hat p` the softmax over the other classes alone, both at temperature T.

    Source: Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022, Eq. 7. mmrazor's
    ``DKDLoss`` sums over the batch whatever ``reduction`` says.

    Args:
        preds_S: student logits, (N, C), C of 2 at least, floating point.
        preds_T: teacher logits, the same shape. A class other than the label that is minus
            infinity in the teacher, in the student too or not, adds nothing. Where all of them
            are, as in votes that are unanimous, the others' term of the row is 0.
        gt_labels: the target classes, (N,), int64.
        temperature: T > 0; 4 is the CIFAR-100 recipe, 1 that on ImageNet.
        alpha: weight of the target's term, 0 at least.
        beta: weight of the others' term, 0 at least; 8 is the recipe for ResNet-32x4 to
            ResNet-8x4, other pairs have 6 or 2.
        reduction: ``'none'``, ``'mean'`` over the batch, or ``'sum'``.

    Returns:
        Scalar, 0 for N = 0; (N,) under ``'none'``. float64 for float64, else float32.

    Raises:
        ValueError: an option out of its range, shapes that don't fit, or a single class.

    Example:
        >>> import torch
        >>> logits, labels = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0])
        >>> dkd_loss(logits, logits, labels).item()
        0.0
    """
    check_positive(temperature=temperature)
    check_not_negative(alpha=alpha, beta=beta)
    check_reduction(reduction)
    check_same_shape(preds_S, preds_T)
    check_labels(gt_labels, preds_S)
    preds_S, preds_T = at_least_float32(preds_S), at_least_float32(preds_T)
    binary_S, others_S = _log_probabilities(preds_S, gt_labels, temperature)
    binary_T, others_T = _log_probabilities(preds_T, gt_labels, temperature)
    target_term = kl_divergence(binary_S, binary_T)
    others_term = kl_divergence(others_S, others_T)
    return reduced(temperature**2 * (alpha * target_term + beta * others_term), reduction)


def _log_probabilities(
    preds: Tensor, gt_labels: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Of (target, not target), (N, 2), and of the other classes among themselves, (N, C)."""
    logits = preds / temperature
    label = gt_labels.unsqueeze(1)
    is_target = torch.arange(logits.shape[1], device=logits.device) == label
    # The target is none of the others: a class that is minus infinity in both adds nothing.
    others = logits.masked_fill(is_target, -math.inf)
    binary = torch.stack([logits.gather(1, label).squeeze(1), others.logsumexp(dim=1)], dim=1)
    # Without another class there is no softmax over the others, and nothing to add.
    nothing = (others == -math.inf).all(dim=1, keepdim=True)
    among_others = others.masked_fill(nothing, 0).log_softmax(dim=1)
    return binary.log_softmax(dim=1), among_others.masked_fill(nothing, -math.inf)

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmkendall.functional.rank_loss import REDUCTIONS
from mmkendall.models.losses.checks import (
    at_least_float32,
    check_not_negative,
    check_positive,
    check_same_shape,
    kl_divergence,
    mean_over_rows,
)
from mmkendall.models.losses.ramp import check_ramp, ramp_share
from mmkendall.registry import MODELS


@MODELS.register_module()
class DKDLoss(nn.Module):
    r"""Decoupled knowledge distillation: the target class and the order of the others apart.

    .. math::
        L = T^2 \left(\alpha\, \mathrm{KL}(b^T \| b^S) + \beta\, \mathrm{KL}(\hat p^T \|
        \hat p^S)\right)

    with :math:`b` the softmax's probabilities of the target and of all other classes together,
    and :math:`\hat p` the softmax over the other classes alone, both at temperature T.

    Source: Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022, Eq. 7; the linear warm-up
    is that of its CIFAR-100 recipe. mmrazor's ``DKDLoss`` sums over the batch whatever
    ``reduction`` says, and has no warm-up.

    Args:
        temperature: T > 0. Defaults to 4, the CIFAR-100 recipe; 1 on ImageNet.
        alpha: weight of the target's term, 0 at least. Defaults to 1.
        beta: weight of the others' term, 0 at least. Defaults to 8, the recipe for ResNet-32x4 to
            ResNet-8x4; other pairs have 6 or 2.
        warmup_epochs: the loss grows linearly to its full weight over the first epochs of a
            training by mmengine's epoch-based loop, from ``1 / warmup_epochs`` in the first. 0 for
            none. Defaults to 20.
        reduction: ``'none'``, ``'mean'`` over the batch, or ``'sum'``. Defaults to ``'mean'``.
        loss_weight: factor on the loss. Defaults to 1.0.
        teacher_detach: keep the gradient from the teacher. Defaults to True.

    Shape:
        - preds_S, preds_T: (N, C), C of 2 at least; gt_labels: (N,), int64. A class other than the
          label that is minus infinity in the teacher, in the student too or not, adds nothing.
        - output: scalar, 0 for N = 0, or (N,) under ``'none'``.

    Raises:
        ValueError: an option out of its range, when it is built; shapes that don't fit or a single
            class, when it is called.

    Example:
        In a ``ConfigurableDistiller``, with the labels that the student's head gives its loss::

            student_recorders=dict(
                fc=dict(type='ModuleOutputs', source='head.fc'),
                gt_labels=dict(type='ModuleInputs', source='head.loss_module')),
            teacher_recorders=dict(fc=dict(type='ModuleOutputs', source='head.fc')),
            distill_losses=dict(loss_dkd=dict(type='mmkendall.DKDLoss', beta=8.0)),
            loss_forward_mappings=dict(
                loss_dkd=dict(
                    preds_S=dict(from_student=True, recorder='fc'),
                    preds_T=dict(from_student=False, recorder='fc'),
                    gt_labels=dict(from_student=True, recorder='gt_labels', data_idx=1)))
    """

    def __init__(
        self,
        temperature: float = 4.0,
        alpha: float = 1.0,
        beta: float = 8.0,
        warmup_epochs: int = 20,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
        teacher_detach: bool = True,
    ) -> None:
        super().__init__()
        check_positive(temperature=temperature)
        check_not_negative(alpha=alpha, beta=beta, loss_weight=loss_weight)
        check_ramp('warmup_epochs', warmup_epochs)
        if reduction not in REDUCTIONS:
            raise ValueError(f'reduction must be one of {REDUCTIONS}, got {reduction!r}')
        self.temperature = temperature
        self.alpha = alpha
        self.beta = beta
        self.warmup_epochs = warmup_epochs
        self.reduction = reduction
        self.loss_weight = loss_weight
        self.teacher_detach = teacher_detach

    @property
    def present_weight(self) -> float:
        """``loss_weight`` times the share of the warm-up that the present epoch has reached."""
        return self.loss_weight * ramp_share(self.warmup_epochs)

    def forward(self, preds_S: Tensor, preds_T: Tensor, gt_labels: Tensor) -> Tensor:
        """The weighted loss; see the class for shapes."""
        check_same_shape(preds_S, preds_T)
        if gt_labels.shape != preds_S.shape[:1] or gt_labels.is_floating_point():
            raise ValueError(
                f'gt_labels must hold one class index a row, ({len(preds_S)},), got '
                f'{tuple(gt_labels.shape)} of {gt_labels.dtype}; mixed labels have no target class'
            )
        if self.teacher_detach:
            preds_T = preds_T.detach()
        preds_S, preds_T = at_least_float32(preds_S), at_least_float32(preds_T)
        binary_S, others_S = self._log_probabilities(preds_S, gt_labels)
        binary_T, others_T = self._log_probabilities(preds_T, gt_labels)
        target_term = kl_divergence(binary_S, binary_T)
        others_term = kl_divergence(others_S, others_T)
        losses = self.temperature**2 * (self.alpha * target_term + self.beta * others_term)
        if self.reduction == 'mean':
            losses = mean_over_rows(losses)
        elif self.reduction == 'sum':
            losses = losses.sum()
        return self.present_weight * losses

    def _log_probabilities(self, preds: Tensor, gt_labels: Tensor) -> tuple[Tensor, Tensor]:
        """Of (target, not target), (N, 2), and of the other classes among themselves."""
        logits = preds / self.temperature
        is_target = F.one_hot(gt_labels, logits.shape[1]).bool()
        others = logits[~is_target].reshape(len(logits), logits.shape[1] - 1)
        binary = torch.stack([logits[is_target], others.logsumexp(dim=1)], dim=1)
        return binary.log_softmax(dim=1), others.log_softmax(dim=1)

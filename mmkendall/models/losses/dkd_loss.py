from __future__ import annotations

from torch import Tensor, nn

from mmkendall.functional import dkd_loss
from mmkendall.functional.checks import check_not_negative, check_positive, check_reduction
from mmkendall.models.losses.ramp import check_ramp, ramp_share
from mmkendall.registry import MODELS


@MODELS.register_module()
class DKDLoss(nn.Module):
    """Decoupled knowledge distillation with its warm-up: :func:`mmkendall.functional.dkd_loss`.

    The linear warm-up is that of the paper's CIFAR-100 recipe; mmrazor's ``DKDLoss`` has none.

    Args:
        temperature, alpha, beta, reduction: as in the function.
        warmup_epochs: the loss grows linearly to its full weight over the first epochs of a
            training by mmengine's epoch-based loop, from ``1 / warmup_epochs`` in the first. 0 for
            none. Defaults to 20.
        loss_weight: factor on the loss. Defaults to 1.0.
        teacher_detach: keep the gradient from the teacher. Defaults to True.

    Shape:
        As in the function.

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
        check_reduction(reduction)
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
        """The weighted loss."""
        if self.teacher_detach:
            preds_T = preds_T.detach()
        options = (self.temperature, self.alpha, self.beta, self.reduction)
        return self.present_weight * dkd_loss(preds_S, preds_T, gt_labels, *options)

from __future__ import annotations

from torch import Tensor, nn

from mmkendall.functional import pld_loss
from mmkendall.functional.checks import check_not_negative, check_positive, check_reduction
from mmkendall.functional.listwise import check_topk
from mmkendall.registry import MODELS


@MODELS.register_module()
class PLDLoss(nn.Module):
    """Plackett-Luce distillation: :func:`mmkendall.functional.pld_loss`.

    With labels its first term is a cross-entropy, so it can stand without the student's own loss:
    set that one's ``loss_weight`` to 0, as the configs of PLD do.

    Args:
        temperature, topk, reduction: as in the function.
        loss_weight: factor on the loss. Defaults to 1.0.
        teacher_detach: keep the gradient from the teacher. Defaults to True.

    Shape:
        As in the function; ``gt_labels``, ``mask`` and ``class_mask`` are optional.

    Raises:
        ValueError: an option out of its range, when it is built; shapes that don't fit or a single
            class, when it is called.

    Example:
        In a ``ConfigurableDistiller``, with the labels that the student's head gives its loss::

            student_recorders=dict(
                fc=dict(type='ModuleOutputs', source='head.fc'),
                gt_labels=dict(type='ModuleInputs', source='head.loss_module')),
            teacher_recorders=dict(fc=dict(type='ModuleOutputs', source='head.fc')),
            distill_losses=dict(loss_pld=dict(type='mmkendall.PLDLoss')),
            loss_forward_mappings=dict(
                loss_pld=dict(
                    preds_S=dict(from_student=True, recorder='fc'),
                    preds_T=dict(from_student=False, recorder='fc'),
                    gt_labels=dict(from_student=True, recorder='gt_labels', data_idx=1)))
    """

    def __init__(
        self,
        temperature: float = 1.0,
        topk: int | None = None,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
        teacher_detach: bool = True,
    ) -> None:
        super().__init__()
        check_positive(temperature=temperature)
        check_topk(topk)
        check_reduction(reduction)
        check_not_negative(loss_weight=loss_weight)
        self.temperature = temperature
        self.topk = topk
        self.reduction = reduction
        self.loss_weight = loss_weight
        self.teacher_detach = teacher_detach

    def forward(
        self,
        preds_S: Tensor,
        preds_T: Tensor,
        gt_labels: Tensor | None = None,
        mask: Tensor | None = None,
        class_mask: Tensor | None = None,
    ) -> Tensor:
        """The weighted loss."""
        if self.teacher_detach:
            preds_T = preds_T.detach()
        options = (self.temperature, self.topk, self.reduction)
        return self.loss_weight * pld_loss(
            preds_S, preds_T, gt_labels, *options, mask=mask, class_mask=class_mask
        )

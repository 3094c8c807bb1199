from __future__ import annotations

from torch import Tensor, nn

from mmkendall.functional import bild_loss
from mmkendall.functional.bild import check_num_highest
from mmkendall.functional.checks import check_not_negative, check_positive, check_reduction
from mmkendall.registry import MODELS


@MODELS.register_module()
class BiLDLoss(nn.Module):
    """Differences between the highest logits, both ways: :func:`mmkendall.functional.bild_loss`.

    Args:
        temperature, topk, reduction: as in the function.
        loss_weight: factor on the loss. Defaults to 1.0.
        teacher_detach: keep the gradient from the teacher. Defaults to True.

    Shape:
        As in the function; ``mask`` and ``class_mask`` are optional.

    Raises:
        ValueError: an option out of its range, when it is built; shapes that don't fit or a single
            class, when it is called.

    Example:
        In a ``ConfigurableDistiller`` that records the logits as ``fc``::

            distill_losses=dict(loss_bild=dict(type='mmkendall.BiLDLoss')),
            loss_forward_mappings=dict(
                loss_bild=dict(
                    preds_S=dict(from_student=True, recorder='fc'),
                    preds_T=dict(from_student=False, recorder='fc')))
    """

    def __init__(
        self,
        temperature: float = 3.0,
        topk: int = 8,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
        teacher_detach: bool = True,
    ) -> None:
        super().__init__()
        check_positive(temperature=temperature)
        check_num_highest(topk)
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
        mask: Tensor | None = None,
        class_mask: Tensor | None = None,
    ) -> Tensor:
        """The weighted loss."""
        if self.teacher_detach:
            preds_T = preds_T.detach()
        options = (self.temperature, self.topk, self.reduction)
        return self.loss_weight * bild_loss(
            preds_S, preds_T, *options, mask=mask, class_mask=class_mask
        )

from __future__ import annotations

from torch import Tensor, nn

from mmkendall.functional import pearson_loss
from mmkendall.functional.checks import check_not_negative
from mmkendall.registry import MODELS


@MODELS.register_module()
class PearsonLoss(nn.Module):
    """DIST's two correlations, of the logits: :func:`mmkendall.functional.pearson_loss`.

    mmrazor's ``DISTLoss`` takes them of the softmax's probabilities. On several processes each
    compares the images of its own part of the batch.

    Args:
        inter_weight, intra_weight: as in the function.
        loss_weight: factor on the loss. Defaults to 1.0.
        teacher_detach: keep the gradient from the teacher. Defaults to True.

    Shape:
        As in the function.

    Raises:
        ValueError: an option out of its range, when it is built; shapes that don't fit or a single
            class, when it is called.

    Example:
        In a ``ConfigurableDistiller`` that records the logits as ``fc``::

            distill_losses=dict(loss_pearson=dict(type='mmkendall.PearsonLoss')),
            loss_forward_mappings=dict(
                loss_pearson=dict(
                    preds_S=dict(from_student=True, recorder='fc'),
                    preds_T=dict(from_student=False, recorder='fc')))
    """

    def __init__(
        self,
        inter_weight: float = 1.0,
        intra_weight: float = 1.0,
        loss_weight: float = 1.0,
        teacher_detach: bool = True,
    ) -> None:
        super().__init__()
        check_not_negative(
            inter_weight=inter_weight, intra_weight=intra_weight, loss_weight=loss_weight
        )
        self.inter_weight = inter_weight
        self.intra_weight = intra_weight
        self.loss_weight = loss_weight
        self.teacher_detach = teacher_detach

    def forward(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:
        """The weighted loss."""
        if self.teacher_detach:
            preds_T = preds_T.detach()
        weights = (self.inter_weight, self.intra_weight)
        return self.loss_weight * pearson_loss(preds_S, preds_T, *weights)

from __future__ import annotations

from torch import Tensor, nn

from mmkendall.functional import listmle_loss
from mmkendall.functional.checks import check_not_negative, check_reduction
from mmkendall.functional.listwise import check_topk
from mmkendall.registry import MODELS


@MODELS.register_module()
class ListMLELoss(nn.Module):
    """The likelihood of the teacher's order: :func:`mmkendall.functional.listmle_loss`.

    It reads nothing of the teacher but the order, so the teacher's scores need not be logits. It
    stands beside the student's own loss.

    Args:
        topk, reduction: as in the function.
        loss_weight: factor on the loss. Defaults to 1.0.

    Shape:
        As in the function; ``gt_labels``, ``mask`` and ``class_mask`` are optional.

    Raises:
        ValueError: an option out of its range, when it is built; shapes that don't fit or a single
            class, when it is called.

    Example:
        In a ``ConfigurableDistiller`` that records the logits as ``fc``::

            distill_losses=dict(loss_listmle=dict(type='mmkendall.ListMLELoss', topk=20)),
            loss_forward_mappings=dict(
                loss_listmle=dict(
                    preds_S=dict(from_student=True, recorder='fc'),
                    preds_T=dict(from_student=False, recorder='fc')))
    """

    def __init__(
        self, topk: int | None = None, reduction: str = 'mean', loss_weight: float = 1.0
    ) -> None:
        super().__init__()
        check_topk(topk)
        check_reduction(reduction)
        check_not_negative(loss_weight=loss_weight)
        self.topk = topk
        self.reduction = reduction
        self.loss_weight = loss_weight

    def forward(
        self,
        preds_S: Tensor,
        preds_T: Tensor,
        gt_labels: Tensor | None = None,
        mask: Tensor | None = None,
        class_mask: Tensor | None = None,
    ) -> Tensor:
        """The weighted loss."""
        options = (gt_labels, self.topk, self.reduction)
        return self.loss_weight * listmle_loss(
            preds_S, preds_T, *options, mask=mask, class_mask=class_mask
        )

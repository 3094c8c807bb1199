from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mmkendall.functional import mlkd_loss
from mmkendall.functional.checks import check_not_negative
from mmkendall.functional.mlkd import TEMPERATURES, check_mlkd_options
from mmkendall.registry import MODELS


@MODELS.register_module()
class MLKDLoss(nn.Module):
    """Multi-level logit distillation of several views: :func:`mmkendall.functional.mlkd_loss`.

    Args:
        temperatures, instance_weight, batch_weight, class_weight: as in the function.
        num_views: the views that lie one after the other in a batch, as
            ``MultiViewDataPreprocessor`` puts them. Defaults to 2.
        loss_weight: factor on the loss. Defaults to 1.0.
        teacher_detach: keep the gradient from the teacher. Defaults to True.

    Shape:
        As in the function.

    Raises:
        ValueError: an option out of its range, when it is built; shapes that don't fit or a single
            class, when it is called.

    Example:
        In a ``ConfigurableDistiller`` that records the logits as ``fc``; the data's part is in
        ``MultiViewDataPreprocessor``::

            distill_losses=dict(loss_mlkd=dict(type='mmkendall.MLKDLoss', loss_weight=0.9)),
            loss_forward_mappings=dict(
                loss_mlkd=dict(
                    preds_S=dict(from_student=True, recorder='fc'),
                    preds_T=dict(from_student=False, recorder='fc')))
    """

    def __init__(
        self,
        temperatures: Sequence[float] = TEMPERATURES,
        instance_weight: float = 1.0,
        batch_weight: float = 1.0,
        class_weight: float = 1.0,
        num_views: int = 2,
        loss_weight: float = 1.0,
        teacher_detach: bool = True,
    ) -> None:
        super().__init__()
        check_mlkd_options(temperatures, instance_weight, batch_weight, class_weight, num_views)
        check_not_negative(loss_weight=loss_weight)
        self.temperatures = tuple(temperatures)
        self.instance_weight = instance_weight
        self.batch_weight = batch_weight
        self.class_weight = class_weight
        self.num_views = num_views
        self.loss_weight = loss_weight
        self.teacher_detach = teacher_detach

    def forward(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:
        """The weighted loss."""
        if self.teacher_detach:
            preds_T = preds_T.detach()
        weights = (self.instance_weight, self.batch_weight, self.class_weight)
        options = (self.temperatures, *weights, self.num_views)
        return self.loss_weight * mlkd_loss(preds_S, preds_T, *options)

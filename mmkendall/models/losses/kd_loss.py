from __future__ import annotations

from torch import Tensor, nn

from mmkendall.functional import kd_loss
from mmkendall.functional.checks import check_not_negative, check_positive, check_reduction
from mmkendall.registry import MODELS


@MODELS.register_module()
class KDLoss(nn.Module):
    """KD with a temperature for each side: :func:`mmkendall.functional.kd_loss`.

    It stands where mmrazor's ``KLDivergence`` does, and with one temperature it is the same loss;
    mmrazor calls the temperature ``tau``. A teacher whose scores are no logits needs a
    ``temperature_T`` of its own.

    Args:
        temperature_S, temperature_T, reduction: as in the function. Default to 4.0, None (the
            student's) and ``'mean'``.
        loss_weight: factor on the loss. Defaults to 1.0.
        teacher_detach: keep the gradient from the teacher. Defaults to True.

    Shape:
        As in the function.

    Raises:
        ValueError: an option out of its range, when it is built; shapes that don't fit or a single
            class, when it is called.

    Example:
        In a ``ConfigurableDistiller`` that records the logits as ``fc``, for a teacher whose rows
        are brought to a standard deviation of 4 at the student's temperature of 4::

            connectors=dict(zscore=dict(type='mmkendall.LogitStandardization')),
            distill_losses=dict(
                loss_kd=dict(
                    type='mmkendall.KDLoss', temperature_S=4.0, temperature_T=1.0,
                    loss_weight=0.9)),
            loss_forward_mappings=dict(
                loss_kd=dict(
                    preds_S=dict(from_student=True, recorder='fc'),
                    preds_T=dict(from_student=False, recorder='fc', connector='zscore')))
    """

    def __init__(
        self,
        temperature_S: float = 4.0,
        temperature_T: float | None = None,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
        teacher_detach: bool = True,
    ) -> None:
        super().__init__()
        check_positive(temperature_S=temperature_S)
        if temperature_T is not None:
            check_positive(temperature_T=temperature_T)
        check_not_negative(loss_weight=loss_weight)
        check_reduction(reduction)
        self.temperature_S = temperature_S
        self.temperature_T = temperature_T
        self.reduction = reduction
        self.loss_weight = loss_weight
        self.teacher_detach = teacher_detach

    def forward(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:
        """The weighted loss."""
        if self.teacher_detach:
            preds_T = preds_T.detach()
        options = (self.temperature_S, self.temperature_T, self.reduction)
        return self.loss_weight * kd_loss(preds_S, preds_T, *options)

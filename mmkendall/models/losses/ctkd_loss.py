from __future__ import annotations

import math

import torch
from mmengine.logging import MessageHub
from torch import Tensor, nn

from mmkendall.functional import ctkd_loss
from mmkendall.functional.checks import check_not_negative, check_positive
from mmkendall.models.losses.ramp import check_ramp, ramp_share
from mmkendall.registry import MODELS


@MODELS.register_module()
class CTKDLoss(nn.Module):
    r"""Curriculum temperature: :func:`mmkendall.functional.ctkd_loss` with what it learns.

    .. math::
        T = T_{min} + T_{range}\, \sigma(\theta)

    The reversal of the gradient of :math:`\theta` rises over the first epochs,

    .. math::
        \lambda_e = \frac{\lambda_{max}}{2} (1 - \cos(\pi \min(e / E, 1))), \qquad e = 1, 2, ...

    which is the cosine schedule of the paper, Eq. 8; the defaults are those of the authors'
    published commands.

    The temperature is a parameter of the distiller, so the run's optimizer trains it, with the
    run's weight decay unless ``paramwise_cfg`` says otherwise. A run logs it as ``temperature``.

    Args:
        temperature_min: :math:`T_{min}` > 0. Defaults to 1.
        temperature_range: :math:`T_{range}` > 0. Defaults to 20.
        initial: :math:`\theta` at the start, of any sign. Defaults to 1, a temperature of 15.6.
        reversal_max: :math:`\lambda_{max}`, 0 at least. Defaults to 1.
        ramp_epochs: E, the epochs over which it is reached in a training by mmengine's epoch-based
            loop. 0 for the full strength at once. Defaults to 10.
        loss_weight: factor on the loss. Defaults to 1.0.
        teacher_detach: keep the gradient from the teacher. Defaults to True.

    Shape:
        As in the function.

    Raises:
        ValueError: an option out of its range, when it is built; shapes that don't fit or a single
            class, when it is called.

    Example:
        In a ``ConfigurableDistiller`` that records the logits as ``fc``::

            distill_losses=dict(loss_ctkd=dict(type='mmkendall.CTKDLoss', loss_weight=0.9)),
            loss_forward_mappings=dict(
                loss_ctkd=dict(
                    preds_S=dict(from_student=True, recorder='fc'),
                    preds_T=dict(from_student=False, recorder='fc')))
    """

    def __init__(
        self,
        temperature_min: float = 1.0,
        temperature_range: float = 20.0,
        initial: float = 1.0,
        reversal_max: float = 1.0,
        ramp_epochs: int = 10,
        loss_weight: float = 1.0,
        teacher_detach: bool = True,
    ) -> None:
        super().__init__()
        check_positive(temperature_min=temperature_min, temperature_range=temperature_range)
        check_not_negative(reversal_max=reversal_max, loss_weight=loss_weight)
        check_ramp('ramp_epochs', ramp_epochs)
        if not math.isfinite(initial):
            raise ValueError(f'initial must be finite, got {initial!r}')
        self.temperature_min = temperature_min
        self.temperature_range = temperature_range
        self.theta = nn.Parameter(torch.tensor(float(initial)))
        self.reversal_max = reversal_max
        self.ramp_epochs = ramp_epochs
        self.loss_weight = loss_weight
        self.teacher_detach = teacher_detach

    @property
    def reversal(self) -> float:
        """The strength of the gradient reversal in the present epoch."""
        return self.reversal_max * (1 - math.cos(math.pi * ramp_share(self.ramp_epochs))) / 2

    @property
    def temperature(self) -> Tensor:
        """The present temperature, with the gradient to its parameter not yet reversed."""
        return self.temperature_min + self.temperature_range * self.theta.sigmoid()

    def forward(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:
        """The weighted loss."""
        if self.teacher_detach:
            preds_T = preds_T.detach()
        temperature = self.temperature
        loss = ctkd_loss(preds_S, preds_T, temperature, self.reversal)
        hub = MessageHub.get_current_instance()
        if hub.get_info('loop_stage') == 'train':
            hub.update_scalar('train/temperature', temperature.item())
        return self.loss_weight * loss

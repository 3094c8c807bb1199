from __future__ import annotations

import math

import torch
from mmengine.logging import MessageHub
from torch import Tensor, nn

from mmkendall.models.losses.checks import (
    at_least_float32,
    check_not_negative,
    check_positive,
    check_same_shape,
    kl_divergence,
    log_softmax,
    mean_over_rows,
)
from mmkendall.models.losses.ramp import check_ramp, ramp_share
from mmkendall.registry import MODELS


@MODELS.register_module()
class CTKDLoss(nn.Module):
    r"""Curriculum temperature: KD whose one temperature is learned against the student.

    .. math::
        L = T^2\, \mathrm{KL}(\mathrm{softmax}(t/T) \| \mathrm{softmax}(s/T)), \qquad
        T = T_{min} + T_{range}\, \sigma(\theta)

    The student descends on L and :math:`\theta` climbs on it: between them the gradient is
    multiplied by :math:`-\lambda`. :math:`\lambda` rises over the first epochs,

    .. math::
        \lambda_e = \frac{\lambda_{max}}{2} (1 - \cos(\pi \min(e / E, 1))), \qquad e = 1, 2, ...

    Source: Li et al., "Curriculum Temperature for Knowledge Distillation", AAAI 2023, the global
    temperature (section 3.2, Eq. 6) and the cosine schedule (Eq. 8); the defaults are those of
    the authors' published commands.

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
        - preds_S, preds_T: (N, C), C of 2 at least. A class that is minus infinity in the teacher,
          in the student too or not, adds nothing.
        - output: scalar, the mean over the batch; 0 for N = 0.

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
        """The weighted loss; see the class for shapes."""
        check_same_shape(preds_S, preds_T)
        if self.teacher_detach:
            preds_T = preds_T.detach()
        preds_S, preds_T = at_least_float32(preds_S), at_least_float32(preds_T)
        temperature = _ReverseGradient.apply(self.temperature, self.reversal)
        log_S, log_T = (log_softmax(preds, temperature) for preds in (preds_S, preds_T))
        loss = mean_over_rows(kl_divergence(log_S, log_T))
        hub = MessageHub.get_current_instance()
        if hub.get_info('loop_stage') == 'train':
            hub.update_scalar('train/temperature', temperature.item())
        return self.loss_weight * temperature**2 * loss


class _ReverseGradient(torch.autograd.Function):
    """The identity, with a gradient of ``-strength``."""

    @staticmethod
    def forward(ctx, x, strength):
        ctx.strength = strength
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return -ctx.strength * grad, None

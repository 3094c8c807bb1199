"""Curriculum temperature."""

from __future__ import annotations

from torch import Tensor

from mmkendall.functional.checks import (
    at_least_float32,
    check_not_negative,
    check_same_shape,
    kl_divergence,
    log_softmax,
    mean_over_rows,
)


def ctkd_loss(
    preds_S: Tensor, preds_T: Tensor, temperature: Tensor, reversal: float = 1.0
) -> Tensor:
    r"""Curriculum temperature: KD whose one temperature is learned against the student.

    .. math::
        L = T^2\, \mathrm{KL}(\mathrm{softmax}(t/T) \| \mathrm{softmax}(s/T))

    The student descends on L and the temperature climbs on it: its gradient is multiplied by
    :math:`-\lambda`, the ``reversal``.

    Source: Li et al., "Curriculum Temperature for Knowledge Distillation", AAAI 2023, the global
    temperature (section 3.2, Eq. 6). ``mmkendall.CTKDLoss`` holds the temperature and raises the
    reversal over the first epochs.

    Args:
        preds_S: student logits, (N, C), C of 2 at least, floating point.
        preds_T: teacher logits, the same shape. A class that is minus infinity in the teacher, in
            the student too or not, adds nothing.
        temperature: T > 0, a scalar tensor.
        reversal: :math:`\lambda`, 0 at least.

    Returns:
        Scalar, the mean over the batch; 0 for N = 0. float64 for float64, else float32.

    Raises:
        ValueError: a reversal out of its range, shapes that don't fit, or a single class.

    Example:
        >>> import torch
        >>> logits, temperature = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor(4.0)
        >>> ctkd_loss(logits, logits, temperature).item()
        0.0
    """
    check_not_negative(reversal=reversal)
    check_same_shape(preds_S, preds_T)
    preds_S, preds_T = at_least_float32(preds_S), at_least_float32(preds_T)
    # The value of the temperature, to the bit, and minus the reversal for its slope.
    fixed = temperature.detach()
    temperature = fixed - reversal * (temperature - fixed)
    log_S, log_T = (log_softmax(preds, temperature) for preds in (preds_S, preds_T))
    return temperature**2 * mean_over_rows(kl_divergence(log_S, log_T))

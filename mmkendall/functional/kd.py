"""Knowledge distillation with a temperature for each side."""

from __future__ import annotations

from torch import Tensor

from mmkendall.functional.checks import (
    at_least_float32,
    check_positive,
    check_reduction,
    check_same_shape,
    kl_divergence,
    log_softmax,
    reduced,
)


def kd_loss(
    preds_S: Tensor,
    preds_T: Tensor,
    temperature_S: float = 4.0,
    temperature_T: float | None = None,
    reduction: str = 'mean',
) -> Tensor:
    r"""KD, the KL divergence of softmaxes, with one temperature for each side.

    .. math::
        L = T_S^2\, \mathrm{KL}(p^T \| p^S), \qquad
        p^S = \mathrm{softmax}(s / T_S), \quad p^T = \mathrm{softmax}(t / T_T)

    The gradient of a row is

    .. math::
        \frac{\partial L}{\partial s} = T_S\, (p^S - p^T)

    so the factor is the square of the student's temperature, whatever the teacher's is: for rows
    of mean 0 and high temperatures it is :math:`(s - t\, T_S / T_T) / C`, of the size of a
    difference of logits at any temperature. Under ``'mean'`` it is divided by N.

    With one temperature for both it is the loss of Hinton, Vinyals and Dean, "Distilling the
    Knowledge in a Neural Network", 2015, and mmrazor's ``KLDivergence`` with that ``tau``. A
    teacher whose scores have another scale than logits, such as cosines or margins, needs one of
    its own: :math:`T_T = T_S / a` is the same as multiplying its scores by a.

    To give each row of the teacher the standard deviation ``spread``, take its z-scores,
    ``standardize(preds_T)``, with ``temperature_T = temperature_S / spread``.

    Args:
        preds_S: student logits, (N, C), C of 2 at least, floating point.
        preds_T: teacher scores, the same shape. A class that is minus infinity in the teacher, in
            the student too or not, has probability 0 there and adds nothing, at any temperature.
        temperature_S: :math:`T_S` > 0.
        temperature_T: :math:`T_T` > 0. Defaults to None, the student's.
        reduction: ``'none'``, ``'mean'`` over the batch, or ``'sum'``.

    Returns:
        Scalar, 0 for N = 0; (N,) under ``'none'``. float64 for float64, else float32. A row whose
        teacher is minus infinity throughout is NaN.

    Raises:
        ValueError: an option out of its range, shapes that don't fit, or a single class.

    Example:
        >>> import torch
        >>> cosines = torch.tensor([[0.3, 0.1, 0.0]])
        >>> logits = 20 * cosines
        >>> round(kd_loss(logits, cosines, temperature_S=4.0, temperature_T=0.2).item(), 6)
        0.0
    """
    temperature_T = temperature_S if temperature_T is None else temperature_T
    check_positive(temperature_S=temperature_S, temperature_T=temperature_T)
    check_reduction(reduction)
    check_same_shape(preds_S, preds_T)
    log_S = log_softmax(at_least_float32(preds_S), temperature_S)
    log_T = log_softmax(at_least_float32(preds_T), temperature_T)
    return reduced(temperature_S**2 * kl_divergence(log_S, log_T), reduction)

"""Multi-level logit distillation."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor

from mmkendall.functional.checks import (
    at_least_float32,
    check_not_negative,
    check_positive,
    check_same_shape,
    kl_divergence,
    log_softmax,
    mean_over_rows,
)

# The recipe's base of 4 and the pool.
TEMPERATURES = (4.0, 2.0, 3.0, 5.0, 6.0)


def mlkd_loss(
    preds_S: Tensor,
    preds_T: Tensor,
    temperatures: Sequence[float] = TEMPERATURES,
    instance_weight: float = 1.0,
    batch_weight: float = 1.0,
    class_weight: float = 1.0,
    num_views: int = 1,
) -> Tensor:
    r"""Multi-level logit distillation: images, the batch and the classes, at many temperatures.

    With p the softmax at temperature T of the logits of one view, (N, C),

    .. math::
        L = \sum_{views} \sum_T \left( w_i \frac{T^2}{N} \sum_n \mathrm{KL}(p^T_n \| p^S_n)
        + \frac{w_b}{N} \| p^T p^{T\top} - p^S p^{S\top} \|_F^2
        + \frac{w_c}{C} \| p^{T\top} p^T - p^{S\top} p^S \|_F^2 \right)

    Source: Jin, Wang and Lin, "Multi-Level Logit Distillation", CVPR 2023, sections 3.2 and 3.3.
    Here all three terms are of every view. The published code differs from this: it halves what
    it computes on the weak view, takes T = 2 and 6 of the strong view's terms on the weak view,
    and leaves the strong view out of the batch's and the classes' terms.

    Args:
        preds_S: student logits, (num_views * N, C), C of 2 at least, all images of the first view
            first, floating point.
        preds_T: teacher logits, the same shape. A class that is minus infinity in both adds
            nothing.
        temperatures: every T > 0; the default is the recipe's base of 4 and its pool.
        instance_weight: :math:`w_i`, 0 at least.
        batch_weight: :math:`w_b`, 0 at least.
        class_weight: :math:`w_c`, 0 at least.
        num_views: the views that lie one after the other in the batch.

    Returns:
        Scalar; 0 for N = 0. float64 for float64, else float32.

    Raises:
        ValueError: an option out of its range, shapes that don't fit, or a single class.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]])
        >>> mlkd_loss(logits, logits).item()
        0.0
    """
    check_mlkd_options(temperatures, instance_weight, batch_weight, class_weight, num_views)
    check_same_shape(preds_S, preds_T)
    if len(preds_S) % num_views:
        raise ValueError(
            f'a batch of {len(preds_S)} rows does not hold {num_views} views of the same '
            'images; mmkendall.MultiViewDataPreprocessor makes such batches'
        )
    weights = (instance_weight, batch_weight, class_weight)
    preds_S, preds_T = at_least_float32(preds_S), at_least_float32(preds_T)
    views = zip(preds_S.chunk(num_views), preds_T.chunk(num_views), strict=True)
    return sum(
        _of_view(student, teacher, temperature, *weights)
        for student, teacher in views
        for temperature in temperatures
    )


def check_mlkd_options(
    temperatures: Sequence[float],
    instance_weight: float,
    batch_weight: float,
    class_weight: float,
    num_views: int,
) -> None:
    """Raises ValueError for what is wrong whatever the logits will be."""
    if not isinstance(temperatures, Sequence) or not temperatures:
        raise ValueError(f'temperatures must be a list of one at least, got {temperatures!r}')
    for temperature in temperatures:
        check_positive(temperatures=temperature)
    check_not_negative(
        instance_weight=instance_weight, batch_weight=batch_weight, class_weight=class_weight
    )
    if not isinstance(num_views, Integral) or num_views < 1:
        raise ValueError(f'num_views must be 1 at least, got {num_views!r}')


def _of_view(
    preds_S: Tensor,
    preds_T: Tensor,
    temperature: float,
    instance_weight: float,
    batch_weight: float,
    class_weight: float,
) -> Tensor:
    num_images, num_classes = preds_S.shape
    log_S, log_T = (log_softmax(preds, temperature) for preds in (preds_S, preds_T))
    p_S, p_T = log_S.exp(), log_T.exp()
    instance = mean_over_rows(kl_divergence(log_S, log_T))
    # Autocast would take the products in half precision.
    with torch.autocast(preds_S.device.type, enabled=False):
        batch = (p_T @ p_T.T - p_S @ p_S.T).square().sum() / max(num_images, 1)
        classes = (p_T.T @ p_T - p_S.T @ p_S).square().sum() / num_classes
    return (
        instance_weight * temperature**2 * instance + batch_weight * batch + class_weight * classes
    )

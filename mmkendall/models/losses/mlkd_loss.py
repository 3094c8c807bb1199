from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import torch
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
from mmkendall.registry import MODELS


@MODELS.register_module()
class MLKDLoss(nn.Module):
    r"""Multi-level logit distillation: images, the batch and the classes, at many temperatures.

    With p the softmax at temperature T of the logits of one view, (N, C),

    .. math::
        L = \sum_{views} \sum_T \left( w_i \frac{T^2}{N} \sum_n \mathrm{KL}(p^T_n \| p^S_n)
        + \frac{w_b}{N} \| p^T p^{T\top} - p^S p^{S\top} \|_F^2
        + \frac{w_c}{C} \| p^{T\top} p^T - p^{S\top} p^S \|_F^2 \right)

    Source: Jin, Wang and Lin, "Multi-Level Logit Distillation", CVPR 2023, sections 3.2 and 3.3.
    Here all three terms are of both views. The published code differs from this: it halves what
    it computes on the weak view, takes T = 2 and 6 of the strong view's terms on the weak view,
    and leaves the strong view out of the batch's and the classes' terms.

    Args:
        temperatures: every T > 0. Defaults to (4, 2, 3, 5, 6), the recipe's base of 4 and the
            pool.
        instance_weight: :math:`w_i`, 0 at least. Defaults to 1.
        batch_weight: :math:`w_b`, 0 at least. Defaults to 1.
        class_weight: :math:`w_c`, 0 at least. Defaults to 1.
        num_views: the views that lie one after the other in a batch, as
            ``MultiViewDataPreprocessor`` puts them. Defaults to 2.
        loss_weight: factor on the loss. Defaults to 1.0.
        teacher_detach: keep the gradient from the teacher. Defaults to True.

    Shape:
        - preds_S, preds_T: (num_views * N, C), C of 2 at least, all images of the first view
          first. A class that is minus infinity in both logits adds nothing.
        - output: scalar; 0 for N = 0.

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
        temperatures: Sequence[float] = (4.0, 2.0, 3.0, 5.0, 6.0),
        instance_weight: float = 1.0,
        batch_weight: float = 1.0,
        class_weight: float = 1.0,
        num_views: int = 2,
        loss_weight: float = 1.0,
        teacher_detach: bool = True,
    ) -> None:
        super().__init__()
        if not isinstance(temperatures, Sequence) or not temperatures:
            raise ValueError(f'temperatures must be a list of one at least, got {temperatures!r}')
        for temperature in temperatures:
            check_positive(temperatures=temperature)
        check_not_negative(
            instance_weight=instance_weight,
            batch_weight=batch_weight,
            class_weight=class_weight,
            loss_weight=loss_weight,
        )
        if not isinstance(num_views, Integral) or num_views < 1:
            raise ValueError(f'num_views must be 1 at least, got {num_views!r}')
        self.temperatures = tuple(temperatures)
        self.instance_weight = instance_weight
        self.batch_weight = batch_weight
        self.class_weight = class_weight
        self.num_views = num_views
        self.loss_weight = loss_weight
        self.teacher_detach = teacher_detach

    def forward(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:
        """The weighted loss; see the class for shapes."""
        check_same_shape(preds_S, preds_T)
        if len(preds_S) % self.num_views:
            raise ValueError(
                f'a batch of {len(preds_S)} rows does not hold {self.num_views} views of the same '
                'images; mmkendall.MultiViewDataPreprocessor makes such batches'
            )
        if self.teacher_detach:
            preds_T = preds_T.detach()
        preds_S, preds_T = at_least_float32(preds_S), at_least_float32(preds_T)
        views = zip(preds_S.chunk(self.num_views), preds_T.chunk(self.num_views), strict=True)
        loss = sum(
            self._of_view(student, teacher, temperature)
            for student, teacher in views
            for temperature in self.temperatures
        )
        return self.loss_weight * loss

    def _of_view(self, preds_S: Tensor, preds_T: Tensor, temperature: float) -> Tensor:
        num_images, num_classes = preds_S.shape
        log_S, log_T = (log_softmax(preds, temperature) for preds in (preds_S, preds_T))
        p_S, p_T = log_S.exp(), log_T.exp()
        instance = mean_over_rows(kl_divergence(log_S, log_T))
        # Autocast would take the products in half precision.
        with torch.autocast(preds_S.device.type, enabled=False):
            batch = (p_T @ p_T.T - p_S @ p_S.T).square().sum() / max(num_images, 1)
            classes = (p_T.T @ p_T - p_S.T @ p_S).square().sum() / num_classes
        return (
            self.instance_weight * temperature**2 * instance
            + self.batch_weight * batch
            + self.class_weight * classes
        )

from __future__ import annotations

import warnings

from torch import Tensor, nn

from mmkendall.functional import standardize
from mmkendall.registry import MODELS


@MODELS.register_module()
class LogitStandardization(nn.Module):
    """A connector that turns logits into z-scores over the classes, for any logit loss behind it.

    It is :func:`mmkendall.functional.standardize`, which says what it does. LSKD needs it on
    both the student's and the teacher's record. On the teacher's alone it gives scores of any
    scale a standard deviation of 1, which the ``temperature_T`` of ``mmkendall.KDLoss`` brings to
    any other.

    Args:
        unbiased, dim: as in the function. Default to False and 1.

    Shape:
        (N, C) or (N, C, ...), C of 2 at least; N may be 0.

    Raises:
        ValueError: fewer than two classes, when it is called. Two are warned of: their z-scores
            are -1 and 1 whatever their logits are, so a loss behind them has no gradient.

    Example:
        In a ``ConfigurableDistiller`` that records the logits as ``fc``::

            connectors=dict(zscore=dict(type='mmkendall.LogitStandardization')),
            distill_losses=dict(loss_kl=dict(type='KLDivergence', tau=2, loss_weight=9)),
            loss_forward_mappings=dict(
                loss_kl=dict(
                    preds_S=dict(from_student=True, recorder='fc', connector='zscore'),
                    preds_T=dict(from_student=False, recorder='fc', connector='zscore')))
    """

    def __init__(self, unbiased: bool = False, dim: int = 1) -> None:
        super().__init__()
        self.unbiased = unbiased
        self.dim = dim

    def forward(self, logits: Tensor) -> Tensor:
        """The z-scores; see the class for shapes."""
        num_classes = logits.shape[self.dim]
        if num_classes < 2:
            raise ValueError(
                f'{num_classes} class in dim={self.dim} has no standard deviation: take a loss '
                'without LogitStandardization'
            )
        if num_classes == 2:
            warnings.warn(
                f'LogitStandardization: two classes in dim={self.dim} have z-scores of -1 and 1 '
                'whatever their logits are, so no loss behind it can teach: leave it out',
                stacklevel=2,
            )
        return standardize(logits, self.dim, self.unbiased)

from __future__ import annotations

from torch import Tensor, nn

from mmkendall.functional import order_scores
from mmkendall.functional.checks import check_positive
from mmkendall.registry import MODELS


@MODELS.register_module()
class OrderScores(nn.Module):
    """A connector that turns a teacher's scores into the normal scores of their ranks.

    It is :func:`mmkendall.functional.order_scores`, which says what it does. The loss behind it
    sees the order of the classes alone, so the teacher may be anything that ranks them: margins,
    votes, cosines, a ranking. It is for the teacher's record: ranks have no gradient.

    Args:
        spread, dim: as in the function. Default to 1.0 and 1.

    Shape:
        (N, C) or (N, C, ...); N may be 0.

    Raises:
        ValueError: a spread out of its range, when it is built; scores that are to be trained,
            when it is called.

    Example:
        In a ``ConfigurableDistiller`` that records the logits as ``fc``; at the loss's temperature
        of 4 the teacher's softmax is that of the normal scores themselves::

            connectors=dict(order=dict(type='mmkendall.OrderScores', spread=4.0)),
            distill_losses=dict(loss_kl=dict(type='KLDivergence', tau=4, loss_weight=0.9)),
            loss_forward_mappings=dict(
                loss_kl=dict(
                    preds_S=dict(from_student=True, recorder='fc'),
                    preds_T=dict(from_student=False, recorder='fc', connector='order')))
    """

    def __init__(self, spread: float = 1.0, dim: int = 1) -> None:
        super().__init__()
        check_positive(spread=spread)
        self.spread = spread
        self.dim = dim

    def forward(self, logits: Tensor) -> Tensor:
        """The normal scores; see the class for shapes."""
        if logits.requires_grad:
            raise ValueError(
                'OrderScores must get scores that are not trained, as ranks have no gradient, got '
                "some that are: name it as the connector of the teacher's record "
                '(from_student=False)'
            )
        return order_scores(logits, self.spread, self.dim)

    def extra_repr(self) -> str:
        return f'spread={self.spread}, dim={self.dim}'

from __future__ import annotations

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor

from mmkendall.registry import MODELS


@MODELS.register_module()
class FirstToken(BaseModule):
    """The class token of a transformer that returns all its tokens, as timm's do.

    Shape:
        - input: a tuple of (N, L, C).
        - output: a tuple of (N, C).

    Example::

        backbone=dict(type='mmpretrain.TIMMBackbone', model_name='pit_ti_224'),
        neck=dict(type='mmkendall.FirstToken')
    """

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The first token of each map; see the class for shapes."""
        return tuple(tokens[:, 0] for tokens in inputs)

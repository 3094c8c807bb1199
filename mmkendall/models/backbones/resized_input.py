from __future__ import annotations

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from mmkendall.registry import MODELS


@MODELS.register_module()
class ResizedInput(BaseModule):
    """A backbone behind a resize, for a student that needs larger images than its teacher.

    A vision transformer for 224x224 learns CIFAR-100 from a teacher for 32x32 this way: the
    batch, augmented and normalised, is the teacher's as it is, and the student's enlarged.

    Args:
        backbone: the config of the backbone.
        size: the side of the images that it gets, in pixels.
        mode: ``'bicubic'``, or another mode of ``torch.nn.functional.interpolate`` that works
            without aligned corners. Defaults to ``'bicubic'``.
        init_cfg: initialisation as in mmengine. Defaults to None: the backbone's own.

    Shape:
        - input: (N, c, H, W).
        - output: what the backbone makes of (N, c, size, size); a list as a tuple.

    Raises:
        ValueError: a size below 1.

    Example::

        backbone=dict(
            type='mmkendall.ResizedInput', size=224, backbone=dict(type='mmpretrain.T2T_ViT'))
    """

    def __init__(
        self, backbone: dict, size: int, mode: str = 'bicubic', init_cfg: dict | None = None
    ) -> None:
        super().__init__(init_cfg)
        if size < 1:
            raise ValueError(f'size must be 1 at least, got {size}')
        self.backbone = MODELS.build(backbone)
        self.size = size
        self.mode = mode

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """What the backbone makes of the resized images."""
        features = self.backbone(F.interpolate(x, size=(self.size, self.size), mode=self.mode))
        # mmdet's backbones return a list, which mmpretrain's necks refuse.
        return tuple(features) if isinstance(features, list) else features

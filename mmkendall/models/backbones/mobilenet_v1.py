from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from mmkendall.models.backbones.base import ChainBackbone, conv_bn
from mmkendall.registry import MODELS

# channels, blocks; all stages but the first halve the map
STAGES = ((64, 1), (128, 2), (256, 2), (512, 6), (1024, 2))


def separable_conv(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """A 3x3 convolution per channel, then a 1x1 over all of them."""
    return nn.Sequential(
        *conv_bn(in_channels, in_channels, 3, stride, groups=in_channels),
        nn.ReLU(inplace=True),
        *conv_bn(in_channels, out_channels, 1),
        nn.ReLU(inplace=True),
    )


@MODELS.register_module()
class MobileNetV1(ChainBackbone):
    """MobileNet of width 1 for ImageNet, the student of ResNet-50 in the literature's tables.

    Source: Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
    Applications", 2017 (arXiv 1704.04861). Initialisation: torch's own, as in mdistiller.

    Args:
        out_indices: stages to return, from 0 to 4. Defaults to the last.
        init_cfg: initialisation as in mmengine. Defaults to None, torch's own.

    Shape:
        - input: (N, 3, 224, 224), or any other size.
        - output: a tuple of maps; the last stage gives (N, 1024, 7, 7).

    Raises:
        ValueError: ``out_indices`` names no stage.
    """

    def __init__(
        self, out_indices: Sequence[int] = (4,), init_cfg: dict | list[dict] | None = None
    ) -> None:
        chain = {'conv1': nn.Sequential(*conv_bn(3, 32, 3, 2), nn.ReLU(inplace=True))}
        in_channels = 32
        for stage, (channels, count) in enumerate(STAGES):
            blocks = []
            for index in range(count):
                stride = 2 if index == 0 and stage > 0 else 1
                blocks.append(separable_conv(in_channels, channels, stride))
                in_channels = channels
            chain[f'layer{stage + 1}'] = nn.Sequential(*blocks)
        super().__init__(chain, out_indices, init_cfg)

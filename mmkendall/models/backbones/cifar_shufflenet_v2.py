from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmkendall.models.backbones.base import ChainBackbone, channel_shuffle, conv_bn
from mmkendall.registry import MODELS

STEM_CHANNELS = 24
WIDTHS = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}
NUM_UNITS = (4, 8, 4)


class ShuffleUnitV2(nn.Module):
    """Half of the channels pass, half are filtered; at stride 2 both branches see all of them."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.branch1 = None
        if stride == 2:
            self.branch1 = nn.Sequential(
                *conv_bn(in_channels, in_channels, 3, stride, groups=in_channels),
                *conv_bn(in_channels, half, 1),
                nn.ReLU(inplace=True),
            )
        self.branch2 = nn.Sequential(
            *conv_bn(in_channels if stride == 2 else half, half, 1),
            nn.ReLU(inplace=True),
            *conv_bn(half, half, 3, stride, groups=half),
            *conv_bn(half, half, 1),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.branch1 is None:
            first, second = x.chunk(2, dim=1)
        else:
            first, second = self.branch1(x), x
        return channel_shuffle(torch.cat([first, self.branch2(second)], dim=1), groups=2)


@MODELS.register_module()
class CifarShuffleNetV2(ChainBackbone):
    """ShuffleNetV2 for 32x32 images: a 1x1 stem without pooling.

    Source: Ma et al., "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design",
    ECCV 2018, in mdistiller's form. Initialisation: torch's own, as there.

    Args:
        widen_factor: 0.5, 1.0, 1.5 or 2.0. Defaults to 1.0.
        out_indices: stages to return, from 0 to 3; 3 is the 1x1 convolution behind the units, as
            in mmpretrain. Defaults to it.
        init_cfg: initialisation as in mmengine. Defaults to None, torch's own.

    Shape:
        - input: (N, 3, 32, 32), or any other size.
        - output: a tuple of maps; the last stage gives (N, 1024, 4, 4), with twice the
          channels at width 2.

    Raises:
        ValueError: ``widen_factor`` is unknown, or ``out_indices`` names no stage.
    """

    def __init__(
        self,
        widen_factor: float = 1.0,
        out_indices: Sequence[int] = (3,),
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        if widen_factor not in WIDTHS:
            raise ValueError(f'widen_factor must be one of {tuple(WIDTHS)}, got {widen_factor}')
        *widths, last_width = WIDTHS[widen_factor]
        conv1, bn1 = conv_bn(3, STEM_CHANNELS, 1)
        chain = {'conv1': conv1, 'bn1': bn1, 'relu': nn.ReLU(inplace=True)}
        in_channels = STEM_CHANNELS
        for number, (channels, count) in enumerate(zip(widths, NUM_UNITS, strict=True), 1):
            units = []
            for index in range(count):
                units.append(ShuffleUnitV2(in_channels, channels, stride=2 if index == 0 else 1))
                in_channels = channels
            chain[f'layer{number}'] = nn.Sequential(*units)
        last = conv_bn(in_channels, last_width, 1)
        chain['layer4'] = nn.Sequential(*last, nn.ReLU(inplace=True))
        super().__init__(chain, out_indices, init_cfg)

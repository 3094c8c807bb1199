from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmkendall.models.backbones.base import ChainBackbone, channel_shuffle, conv_bn
from mmkendall.registry import MODELS

STEM_CHANNELS = 24
STAGES = ((240, 4), (480, 8), (960, 4))
GROUPS = 3


class ShuffleUnit(nn.Module):
    """A bottleneck of grouped 1x1 convolutions with a shuffle between; stride 2 concatenates."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        branch_channels = out_channels - in_channels if stride == 2 else out_channels
        hidden = branch_channels // 4
        # The stem is too narrow to be split into groups.
        self.groups = 1 if in_channels == STEM_CHANNELS else GROUPS
        self.conv1, self.bn1 = conv_bn(in_channels, hidden, 1, groups=self.groups)
        self.conv2, self.bn2 = conv_bn(hidden, hidden, 3, stride, groups=hidden)
        self.conv3, self.bn3 = conv_bn(hidden, branch_channels, 1, groups=GROUPS)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AvgPool2d(3, stride=2, padding=1) if stride == 2 else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = channel_shuffle(out, self.groups)
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out = out + x if self.pool is None else torch.cat([out, self.pool(x)], dim=1)
        return self.relu(out)


@MODELS.register_module()
class CifarShuffleNetV1(ChainBackbone):
    """ShuffleNet with 3 groups for 32x32 images: a 1x1 stem without pooling.

    It also differs from the paper's in a ReLU behind the depthwise convolution.

    Source: Zhang et al., "ShuffleNet: An Extremely Efficient Convolutional Neural Network for
    Mobile Devices", CVPR 2018, in mdistiller's form. Initialisation: torch's own, as there.

    Args:
        out_indices: stages to return, from 0 to 2. Defaults to the last.
        init_cfg: initialisation as in mmengine. Defaults to None, torch's own.

    Shape:
        - input: (N, 3, 32, 32), or any other size.
        - output: a tuple of maps; the last stage gives (N, 960, 4, 4).

    Raises:
        ValueError: ``out_indices`` names no stage.
    """

    def __init__(
        self, out_indices: Sequence[int] = (2,), init_cfg: dict | list[dict] | None = None
    ) -> None:
        conv1, bn1 = conv_bn(3, STEM_CHANNELS, 1)
        chain = {'conv1': conv1, 'bn1': bn1, 'relu': nn.ReLU(inplace=True)}
        in_channels = STEM_CHANNELS
        for number, (channels, count) in enumerate(STAGES, 1):
            units = []
            for index in range(count):
                units.append(ShuffleUnit(in_channels, channels, stride=2 if index == 0 else 1))
                in_channels = channels
            chain[f'layer{number}'] = nn.Sequential(*units)
        super().__init__(chain, out_indices, init_cfg)

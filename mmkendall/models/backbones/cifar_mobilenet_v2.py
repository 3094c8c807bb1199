from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mmkendall.models.backbones.base import KAIMING_INIT, ChainBackbone, conv_bn
from mmkendall.registry import MODELS

# expansion, channels at width 1, blocks, stride of the first block
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project without activation; added to the input if it fits."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.conv = nn.Sequential(
            *conv_bn(in_channels, hidden, 1),
            nn.ReLU(inplace=True),
            *conv_bn(hidden, hidden, 3, stride, groups=hidden),
            nn.ReLU(inplace=True),
            *conv_bn(hidden, out_channels, 1),
        )
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.has_shortcut else self.conv(x)


@MODELS.register_module()
class CifarMobileNetV2(ChainBackbone):
    """MobileNetV2 as the distillation literature trains it on 32x32 images.

    It differs from ImageNet's: ReLU for ReLU6, an expansion layer also where the expansion is 1,
    stride 1 in the second stage, and widths that are cut off and not rounded to multiples of 8.

    Source: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, in
    mdistiller's form, whose ``MobileNetV2`` is the one of width 0.5. Initialisation: He's over the
    outputs; the classifier there is normal with a deviation of 0.01.

    Args:
        widen_factor: factor on all widths but that of the last stage, which never falls below
            1280. Defaults to 0.5.
        out_indices: stages to return, from 0 to 7; 7 is the 1x1 convolution behind the blocks, as
            in mmpretrain. Defaults to it.
        init_cfg: initialisation as in mmengine. Defaults to He's.

    Shape:
        - input: (N, 3, 32, 32), or any other size.
        - output: a tuple of maps; the last stage gives (N, 1280, 2, 2) up to width 1.

    Raises:
        ValueError: ``widen_factor`` leaves a stage without channels, or ``out_indices`` names no
            stage.
    """

    def __init__(
        self,
        widen_factor: float = 0.5,
        out_indices: Sequence[int] = (7,),
        init_cfg: dict | list[dict] | None = KAIMING_INIT,
    ) -> None:
        if widen_factor < 1 / 16:
            raise ValueError(f'widen_factor must be at least 1/16, got {widen_factor}')
        in_channels = int(32 * widen_factor)
        chain = {'conv1': nn.Sequential(*conv_bn(3, in_channels, 3, 2), nn.ReLU(inplace=True))}
        for number, (expansion, width, count, first_stride) in enumerate(STAGES, 1):
            out_channels = int(width * widen_factor)
            blocks = []
            for index in range(count):
                stride = first_stride if index == 0 else 1
                blocks.append(InvertedResidual(in_channels, out_channels, stride, expansion))
                in_channels = out_channels
            chain[f'layer{number}'] = nn.Sequential(*blocks)
        last = conv_bn(in_channels, int(1280 * max(1.0, widen_factor)), 1)
        chain['layer8'] = nn.Sequential(*last, nn.ReLU(inplace=True))
        super().__init__(chain, out_indices, init_cfg)

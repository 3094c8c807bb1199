from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mmkendall.models.backbones.base import KAIMING_INIT, ChainBackbone, conv_bn
from mmkendall.registry import MODELS


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, activated after the sum."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_bn(in_channels, channels, 3, stride)
        self.conv2, self.bn2 = conv_bn(channels, channels, 3)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(out + shortcut)


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride) and 1x1 convolutions beside a shortcut."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        out_channels = channels * self.expansion
        self.conv1, self.bn1 = conv_bn(in_channels, channels, 1)
        self.conv2, self.bn2 = conv_bn(channels, channels, 3, stride)
        self.conv3, self.bn3 = conv_bn(channels, out_channels, 1)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(out + shortcut)


def projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    """The shortcut of a block that changes the shape, None for one that doesn't."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(*conv_bn(in_channels, out_channels, 1, stride))


def resnet_chain(
    block: type[BasicBlock] | type[Bottleneck],
    num_blocks: Sequence[int],
    stem_channels: int,
    base_channels: int,
) -> dict[str, nn.Module]:
    """A 3x3 stem and stages that halve the map and double the width, all but the first."""
    conv1, bn1 = conv_bn(3, stem_channels, 3)
    chain = {'conv1': conv1, 'bn1': bn1, 'relu': nn.ReLU(inplace=True)}
    in_channels = stem_channels
    for stage, count in enumerate(num_blocks):
        channels = base_channels * 2**stage
        blocks = []
        for index in range(count):
            stride = 2 if index == 0 and stage > 0 else 1
            blocks.append(block(in_channels, channels, stride))
            in_channels = channels * block.expansion
        chain[f'layer{stage + 1}'] = nn.Sequential(*blocks)
    return chain


@MODELS.register_module()
class CifarResNet(ChainBackbone):
    """The three-stage ResNet for 32x32 images, with projections where the shape changes.

    Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2; the
    projections, the widths of the x4 variants and the initialisation (He's, over the outputs) are
    those of mdistiller and most of the distillation literature.

    Args:
        depth: 6n + 2 with n blocks per stage, such as 8, 20, 32, 56 or 110.
        stem_channels: width of the first convolution. Defaults to 16; 32 in the x4 variants.
        base_channels: width of the first stage, doubled in each that follows. Defaults to 16; 64
            in the x4 variants, 8x4 and 32x4.
        out_indices: stages to return, from 0 to 2. Defaults to the last.
        init_cfg: initialisation as in mmengine. Defaults to He's.

    Shape:
        - input: (N, 3, 32, 32), or any other size.
        - output: a tuple of maps; the last stage gives (N, 4 * base_channels, 8, 8).

    Raises:
        ValueError: ``depth`` is not 6n + 2, or ``out_indices`` names no stage.

    Example:
        ``dict(type='mmkendall.CifarResNet', depth=32, stem_channels=32, base_channels=64)`` is
        ResNet-32x4.
    """

    def __init__(
        self,
        depth: int,
        stem_channels: int = 16,
        base_channels: int = 16,
        out_indices: Sequence[int] = (2,),
        init_cfg: dict | list[dict] | None = KAIMING_INIT,
    ) -> None:
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f'depth must be 6n + 2 with n >= 1 (8, 14, 20, ...), got {depth}')
        num_blocks = [(depth - 2) // 6] * 3
        chain = resnet_chain(BasicBlock, num_blocks, stem_channels, base_channels)
        super().__init__(chain, out_indices, init_cfg)


STAGES = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}


@MODELS.register_module()
class CifarStemResNet(ChainBackbone):
    """ImageNet's four-stage ResNet behind a stem for 32x32 images: 3x3, stride 1, no pooling.

    It is the ResNet-18 and ResNet-50 of the CIFAR-100 tables in the distillation literature. Its
    state dict has the keys of mmpretrain's ``ResNet_CIFAR``, so checkpoints fit both.

    Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; the stem and the
    initialisation (He's, over the outputs; no zero-initialised residual) are those of mdistiller.

    Args:
        depth: 18, 34, 50, 101 or 152.
        out_indices: stages to return, from 0 to 3. Defaults to the last.
        init_cfg: initialisation as in mmengine. Defaults to He's.

    Shape:
        - input: (N, 3, 32, 32), or any other size.
        - output: a tuple of maps; the last stage gives (N, 512, 4, 4) for depths 18 and 34,
          (N, 2048, 4, 4) for the others.

    Raises:
        ValueError: ``depth`` is unknown, or ``out_indices`` names no stage.
    """

    def __init__(
        self,
        depth: int,
        out_indices: Sequence[int] = (3,),
        init_cfg: dict | list[dict] | None = KAIMING_INIT,
    ) -> None:
        if depth not in STAGES:
            raise ValueError(f'depth must be one of {tuple(STAGES)}, got {depth}')
        block, num_blocks = STAGES[depth]
        chain = resnet_chain(block, num_blocks, stem_channels=64, base_channels=64)
        super().__init__(chain, out_indices, init_cfg)

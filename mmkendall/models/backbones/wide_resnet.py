from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mmkendall.models.backbones.base import KAIMING_INIT, ChainBackbone
from mmkendall.registry import MODELS


class PreActBlock(nn.Module):
    """Two 3x3 convolutions, each behind batch norm and ReLU, beside a shortcut.

    A projecting shortcut starts from the activated input, an identity from the input itself.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, drop_rate: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(drop_rate)
        self.shortcut = None
        if in_channels != channels:
            self.shortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = self.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(active)
        out = self.relu(self.bn2(self.conv1(active)))
        return self.conv2(self.dropout(out)) + shortcut


@MODELS.register_module()
class WideResNet(ChainBackbone):
    """WRN-depth-widen_factor for 32x32 images. The last stage ends in batch norm and ReLU.

    Source: Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016. Initialisation: He's over
    the outputs, as in mdistiller, which also starts the classifier with a zero bias.

    Args:
        depth: 6n + 4 with n blocks per stage, such as 16, 28 or 40.
        widen_factor: the stages are 16, 32 and 64 times this wide. Defaults to 1.
        drop_rate: dropout between the convolutions of a block. Defaults to 0.
        out_indices: stages to return, from 0 to 2. Defaults to the last. The first two are maps
            before batch norm and ReLU, which belong to the blocks behind them.
        init_cfg: initialisation as in mmengine. Defaults to He's.

    Shape:
        - input: (N, 3, 32, 32), or any other size.
        - output: a tuple of maps; the last stage gives (N, 64 * widen_factor, 8, 8).

    Raises:
        ValueError: ``depth`` is not 6n + 4, ``widen_factor`` is below 1, or ``out_indices`` names
            no stage.
    """

    def __init__(
        self,
        depth: int,
        widen_factor: int = 1,
        drop_rate: float = 0.0,
        out_indices: Sequence[int] = (2,),
        init_cfg: dict | list[dict] | None = KAIMING_INIT,
    ) -> None:
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f'depth must be 6n + 4 with n >= 1 (10, 16, 22, ...), got {depth}')
        if widen_factor < 1 or widen_factor != int(widen_factor):
            raise ValueError(f'widen_factor must be a whole number from 1, got {widen_factor}')
        chain = {'conv1': nn.Conv2d(3, 16, 3, padding=1, bias=False)}
        in_channels = 16
        for stage in range(3):
            channels = 16 * 2**stage * widen_factor
            blocks = nn.Sequential()
            for index in range((depth - 4) // 6):
                stride = 2 if index == 0 and stage > 0 else 1
                block = PreActBlock(in_channels, channels, stride, drop_rate)
                blocks.add_module(str(index), block)
                in_channels = channels
            chain[f'layer{stage + 1}'] = blocks
        blocks.add_module('bn', nn.BatchNorm2d(in_channels))
        blocks.add_module('relu', nn.ReLU(inplace=True))
        super().__init__(chain, out_indices, init_cfg)

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from mmkendall.models.backbones.base import KAIMING_INIT, ChainBackbone
from mmkendall.registry import MODELS

WIDTHS = (64, 128, 256, 512, 512)
NUM_CONVS = {
    8: (1, 1, 1, 1, 1),
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}


@MODELS.register_module()
class CifarVGG(ChainBackbone):
    """VGG with batch norm for 32x32 images: max pooling after the first three of five stages.

    Source: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
    Recognition", ICLR 2015. VGG-8, the pooling and the single linear layer behind a global average
    are those of the distillation literature (mdistiller). Initialisation: He's over the outputs
    and zero biases; the classifier there is normal with a deviation of 0.01.

    Args:
        depth: 8, 11, 13, 16 or 19.
        out_indices: stages to return, from 0 to 4, each before its pooling. Defaults to the last.
        init_cfg: initialisation as in mmengine. Defaults to He's.

    Shape:
        - input: (N, 3, 32, 32), or any other size from 8.
        - output: a tuple of maps; the last stage gives (N, 512, 4, 4).

    Raises:
        ValueError: ``depth`` is unknown, or ``out_indices`` names no stage.
    """

    def __init__(
        self,
        depth: int,
        out_indices: Sequence[int] = (4,),
        init_cfg: dict | list[dict] | None = KAIMING_INIT,
    ) -> None:
        if depth not in NUM_CONVS:
            raise ValueError(f'depth must be one of {tuple(NUM_CONVS)}, got {depth}')
        chain = {}
        in_channels = 3
        for number, (channels, count) in enumerate(zip(WIDTHS, NUM_CONVS[depth], strict=True), 1):
            layers = []
            for _ in range(count):
                layers += [
                    nn.Conv2d(in_channels, channels, 3, padding=1),
                    nn.BatchNorm2d(channels),
                    nn.ReLU(inplace=True),
                ]
                in_channels = channels
            chain[f'layer{number}'] = nn.Sequential(*layers)
            if number <= 3:
                chain[f'pool{number}'] = nn.MaxPool2d(2)
        super().__init__(chain, out_indices, init_cfg)

"""Networks for grey images of 32x32 that train in seconds on a CPU."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmkendall.registry import MODELS

SIDE = 32


class SmallNet(BaseModule):
    """A chain of layers for one-channel images of 32x32, whose outcome is a vector of features.

    Args:
        layers: the chain.
        init_cfg: initialisation as in mmengine; None keeps torch's own.

    Shape:
        - input: (N, 1, 32, 32).
        - output: a tuple of one tensor (N, features).

    Raises:
        ValueError: images of another size, when it is called.
    """

    def __init__(self, layers: Sequence[nn.Module], init_cfg: dict | list[dict] | None) -> None:
        super().__init__(init_cfg)
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """The features; see the class for shapes."""
        if x.shape[1:] != (1, SIDE, SIDE):
            raise ValueError(
                f'{type(self).__name__} needs images of shape (1, {SIDE}, {SIDE}), '
                f'got {tuple(x.shape[1:])}'
            )
        return (self.layers(x),)


@MODELS.register_module()
class LeNet(SmallNet):
    """Two 5x5 convolutions of stride 2 and a hidden layer: the first LeNet, with ReLU.

    Strides in place of pooling, as in its first form, take a third of the time of mmpretrain's
    ``LeNet5`` on a CPU.

    Source: LeCun et al., "Backpropagation Applied to Handwritten Zip Code Recognition", Neural
    Computation 1989.

    Args:
        channels: of both convolutions. Defaults to (8, 16).
        hidden: features that come out. Defaults to 84.
        init_cfg: initialisation as in mmengine. Defaults to None, torch's own.
    """

    def __init__(
        self,
        channels: Sequence[int] = (8, 16),
        hidden: int = 84,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        first, second = channels
        layers = [
            nn.Conv2d(1, first, 5, stride=2),
            nn.ReLU(),
            nn.Conv2d(first, second, 5, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(second * 5 * 5, hidden),
            nn.ReLU(),
        ]
        super().__init__(layers, init_cfg)


@MODELS.register_module()
class MLP(SmallNet):
    """Hidden layers with ReLU on the pixels.

    Args:
        hidden: the widths; the last is how many features come out. Defaults to (64,).
        init_cfg: initialisation as in mmengine. Defaults to None, torch's own.
    """

    def __init__(
        self, hidden: Sequence[int] = (64,), init_cfg: dict | list[dict] | None = None
    ) -> None:
        layers = [nn.Flatten()]
        for before, width in zip((SIDE * SIDE, *hidden), hidden, strict=False):
            layers += [nn.Linear(before, width), nn.ReLU()]
        super().__init__(layers, init_cfg)


@MODELS.register_module()
class ConvNet(SmallNet):
    """Three convolutions with batch norm, each halving the size, and a hidden layer with dropout.

    The first convolution is 5x5 with a stride of 2; the others are 3x3 with max pooling behind.

    Args:
        channels: of the convolutions. Defaults to (16, 32, 64).
        hidden: features that come out. Defaults to 512.
        drop_rate: dropout before and behind the hidden layer. Defaults to 0.2.
        init_cfg: initialisation as in mmengine. Defaults to None, torch's own.
    """

    def __init__(
        self,
        channels: Sequence[int] = (16, 32, 64),
        hidden: int = 512,
        drop_rate: float = 0.2,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        first, *others = channels
        layers = [
            nn.Conv2d(1, first, 5, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(),
        ]
        before, side = first, SIDE // 2
        for width in others:
            layers += [
                nn.Conv2d(before, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
            before, side = width, side // 2
        layers += [
            nn.Flatten(),
            nn.Dropout(drop_rate),
            nn.Linear(before * side * side, hidden),
            nn.ReLU(),
            nn.Dropout(drop_rate),
        ]
        super().__init__(layers, init_cfg)

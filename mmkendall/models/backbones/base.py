from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

# He's initialisation over the outputs, with zero biases: where most CIFAR networks of the
# distillation literature start. mmengine copies it before use.
KAIMING_INIT = dict(type='Kaiming', layer='Conv2d')


class ChainBackbone(BaseModule):
    """A chain of named modules; those called ``layer1``, ``layer2``, ... are its stages.

    Args:
        chain: the modules by name, in the order in which they run.
        out_indices: the stages whose maps are returned, from 0.
        init_cfg: initialisation as in mmengine; None keeps torch's own.

    Shape:
        - input: (N, 3, H, W).
        - output: a tuple of (N, C, H', W'), one per index, in the order of the stages.

    Raises:
        ValueError: ``out_indices`` is empty or names a stage that doesn't exist.
    """

    def __init__(
        self,
        chain: Mapping[str, nn.Module],
        out_indices: Sequence[int],
        init_cfg: dict | list[dict] | None,
    ) -> None:
        super().__init__(init_cfg)
        stages = [name for name in chain if name.startswith('layer')]
        if not out_indices or not set(out_indices) <= set(range(len(stages))):
            raise ValueError(
                f'out_indices must name at least one stage from 0 to {len(stages) - 1}, '
                f'got {out_indices}'
            )
        self.out_indices = tuple(out_indices)
        self.out_names = {stages[index] for index in out_indices}
        for name, module in chain.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The maps of the stages in ``out_indices``; see the class for shapes."""
        maps = []
        for name, module in self.named_children():
            x = module(x)
            if name in self.out_names:
                maps.append(x)
        return tuple(maps)


def conv_bn(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """A convolution that keeps the size at stride 1, without bias, and its batch norm."""
    return [
        nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding=kernel_size // 2,
            groups=groups,
            bias=False,
        ),
        nn.BatchNorm2d(out_channels),
    ]


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave the channels of ``groups`` groups, (N, C, H, W) to (N, C, H, W)."""
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)

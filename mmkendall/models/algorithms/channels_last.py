"""What has to be left out of the channels_last memory format."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def keep_narrow_convolutions_contiguous(model: nn.Module) -> None:
    """Leaves strided 1x1 convolutions of fewer than 16 channels out of channels_last on a CPU.

    With fewer channels than the vector unit holds floats (8 in AVX2, 16 in AVX-512), oneDNN's
    weight gradient in that format writes past its workspace: a crash or wrong weights
    (https://github.com/uxlfoundation/oneDNN/issues/6035, seen with torch 2.13).
    """
    for module in model.modules():
        if (
            isinstance(module, nn.Conv2d)
            and module.kernel_size == (1, 1)
            and max(module.stride) > 1
            and module.in_channels // module.groups < 16
        ):
            # contiguous() would keep the strides: a 1x1 weight is contiguous in both formats.
            weight = module.weight.data
            module.weight.data = torch.empty(weight.shape).to(weight).copy_(weight)
            module.register_forward_pre_hook(contiguous_on_cpu)


def contiguous_on_cpu(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor] | None:
    """A forward pre-hook that undoes channels_last on a CPU."""
    return (inputs[0].contiguous(),) if inputs[0].device.type == 'cpu' else None

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Normalization:
    """How a data preprocessor makes a network's input from pixels: (pixel - mean) / std.

    Args:
        mean: per channel, or one for all, in pixel units.
        std: likewise.
        swaps_channels: whether it turns the order of the channels around (BGR to RGB).
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    swaps_channels: bool

    @classmethod
    def of(cls, preprocessor: nn.Module) -> Normalization:
        """That of mmpretrain's or mmengine's data preprocessors."""
        # mmpretrain and mmengine name it differently.
        swaps = getattr(preprocessor, 'to_rgb', False) or getattr(
            preprocessor, '_channel_conversion', False
        )
        if not normalizes(preprocessor):
            return cls((0.0,), (1.0,), bool(swaps))
        mean, std = (getattr(preprocessor, name).flatten().tolist() for name in ('mean', 'std'))
        return cls(tuple(mean), tuple(std), bool(swaps))


def normalizes(preprocessor: nn.Module) -> bool:
    """Whether a data preprocessor has a mean and a deviation."""
    return getattr(preprocessor, 'mean', None) is not None


class TeacherInput(nn.Module):
    """Makes a teacher's input from the student's: its normalisation, channel order and size.

    With p the pixel, the student gets x = (p - m) / s, and a teacher wants (p - m') / s'. That is
    x * (s / s') + (m - m') / s', one affine map per channel, exact up to rounding. It commutes
    with mixup, CutMix and padding by pixels, so that the teacher sees what the student sees.
    Padding by ``pad_value`` of a data preprocessor is mapped along with the image.

    Args:
        student: the student's data preprocessor.
        teacher: the teacher's; one without a mean means the student's input as it is.
        size: side of the teacher's input in pixels, or (height, width): bilinear, antialiased.
            Defaults to None, the student's.

    Raises:
        ValueError: the two normalise different numbers of channels.
    """

    def __init__(
        self, student: nn.Module, teacher: nn.Module, size: int | tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        self.size = (size, size) if isinstance(size, int) else size
        given = Normalization.of(student)
        wanted = Normalization.of(teacher) if normalizes(teacher) else given
        self.seen = wanted
        if wanted == given:
            self.scale = None
            return
        if 1 not in (len(given.mean), len(wanted.mean)) and len(given.mean) != len(wanted.mean):
            raise ValueError(
                f"a teacher's data_preprocessor normalises {len(wanted.mean)} channels, the "
                f"student's {len(given.mean)}"
            )
        self.swap = given.swaps_channels != wanted.swaps_channels
        order = slice(None, None, -1 if self.swap else 1)
        mean, std = (torch.tensor(v[order]).double() for v in (given.mean, given.std))
        its_mean, its_std = (torch.tensor(v).double() for v in (wanted.mean, wanted.std))
        shape = (-1, 1, 1)
        self.register_buffer('scale', (std / its_std).float().view(shape), persistent=False)
        self.register_buffer(
            'shift', ((mean - its_mean) / its_std).float().view(shape), persistent=False
        )

    def describe(self) -> dict[str, Any]:
        """What the teacher sees, for people and for comparing."""
        return {
            'mean': list(self.seen.mean),
            'std': list(self.seen.std),
            'swaps_channels': self.seen.swaps_channels,
            'size': list(self.size) if self.size else None,
        }

    def forward(self, inputs: Tensor) -> Tensor:
        """(N, C, H, W), normalised for the student, to the same for the teacher."""
        if self.scale is not None:
            inputs = (inputs.flip(1) if self.swap else inputs) * self.scale + self.shift
        if self.size is not None and tuple(inputs.shape[-2:]) != self.size:
            inputs = F.interpolate(
                inputs, self.size, mode='bilinear', align_corners=False, antialias=True
            )
        return inputs

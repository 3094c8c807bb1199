"""Runs of equal elements in sorted rows."""

from __future__ import annotations

import torch
from torch import Tensor


def first_of_equals(ordered: Tensor) -> Tensor:
    """For each place of sorted rows (..., C), the first place of those that hold the same.

    Args:
        ordered: C of 1 at least. A NaN equals nothing.

    Returns:
        int64, of the same shape.
    """
    place = torch.arange(ordered.shape[-1], device=ordered.device)
    goes_on = torch.nn.functional.pad(ordered[..., 1:] == ordered[..., :-1], (1, 0))
    return torch.where(goes_on, 0, place).cummax(dim=-1).values

"""Z-scores of logits over the classes."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def standardize(logits: Tensor, dim: int = 1, unbiased: bool = False) -> Tensor:
    """Z-scores over the classes (LSKD, CVPR 2024); zeros for a constant row.

    A minus infinity, a class that is masked or last, stays one and is in neither mean nor
    deviation.

    Args:
        logits: float32 or float64: float16 can't hold a square of 300, nor that of 1e-4.
        dim: the dimension of the classes.
        unbiased: divide by one class less.

    Returns:
        The shape and dtype of ``logits``.
    """
    is_hidden = logits == -math.inf
    number = (~is_hidden).sum(dim=dim, keepdim=True)
    # Less this, nothing of a constant row remains to be rounded, whatever its logit is.
    start = logits.detach().amax(dim=dim, keepdim=True)
    start = start.masked_fill(start == -math.inf, 0)
    centered = (logits - start).masked_fill(is_hidden, 0)
    mean = centered.sum(dim=dim, keepdim=True) / number.clamp(min=1)
    centered = (centered - mean).masked_fill(is_hidden, 0)
    squares = centered.square().sum(dim=dim, keepdim=True)
    scores = centered * torch.rsqrt(squares / (number - int(unbiased)).clamp(min=1) + 1e-12)
    return scores.masked_fill(is_hidden, -math.inf)

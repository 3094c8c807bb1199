"""Z-scores of logits over the classes."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def standardize(
    logits: Tensor, dim: int = 1, unbiased: bool = False, keep_infinities: bool = True
) -> Tensor:
    """Z-scores over the classes (LSKD, CVPR 2024); zeros for a constant row.

    Args:
        logits: float32 or float64: float16 can't hold a square of 300, nor that of 1e-4.
        dim: the dimension of the classes.
        unbiased: divide by one class less.
        keep_infinities: a minus infinity, a class that is masked or last, stays one and is in
            neither mean nor deviation. False where there is none, for less work.

    Returns:
        The shape and dtype of ``logits``.
    """
    if not keep_infinities:
        # Of a constant row nothing remains to be rounded, whatever its logit is.
        centered = logits - logits.detach().select(dim, 0).unsqueeze(dim)
        centered = centered - centered.mean(dim=dim, keepdim=True)
        squares = centered.square().sum(dim=dim, keepdim=True)
        # eps under the root, so that a constant row has a finite gradient.
        return centered * torch.rsqrt(squares / (logits.shape[dim] - unbiased) + 1e-12)
    is_hidden = logits == -math.inf
    number = (~is_hidden).sum(dim=dim, keepdim=True)
    start = logits.detach().amax(dim=dim, keepdim=True)
    start = start.masked_fill(start == -math.inf, 0)
    centered = (logits - start).masked_fill(is_hidden, 0)
    mean = centered.sum(dim=dim, keepdim=True) / number.clamp(min=1)
    centered = (centered - mean).masked_fill(is_hidden, 0)
    squares = centered.square().sum(dim=dim, keepdim=True)
    scores = centered * torch.rsqrt(squares / (number - int(unbiased)).clamp(min=1) + 1e-12)
    return scores.masked_fill(is_hidden, -math.inf)

"""Z-scores of logits over the classes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mmkendall.functional.checks import at_least_float32


def standardize(logits: Tensor, dim: int = 1, unbiased: bool = False) -> Tensor:
    r"""Z-scores over the classes, for any logit loss behind them; zeros for a constant row.

    .. math::
        Z(z) = (z - \bar z) / \sigma(z), \qquad
        \sigma(z) = \sqrt{\tfrac{1}{C} \sum_c (z_c - \bar z)^2}

    Source: Sun et al., "Logit Standardization in Knowledge Distillation", CVPR 2024, Algorithm 1.
    The base temperature is that of the loss behind it (2 for most of the paper's pairs). Both
    sides need it.

    Args:
        logits: floating point, with the classes in ``dim``. A minus infinity, a class that is
            masked or last, stays one and is in neither mean nor deviation.
        dim: the dimension of the classes.
        unbiased: divide by C - 1 in place of C, as the authors' published code does.

    Returns:
        The shape of ``logits``; float64 for float64, else float32.

    Example:
        >>> import torch
        >>> standardize(torch.tensor([[1.0, 1.0, 3.0, 3.0]])).tolist()
        [[-1.0, -1.0, 1.0, 1.0]]
    """
    # float16 can't hold a square of 300, nor that of 1e-4.
    logits = at_least_float32(logits)
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

"""What the ranking loss can see of given logits."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def live_pair_share(
    preds_S: Tensor, steepness: float = 100.0, *, dim: int = 1, threshold: float = 1e-3
) -> Tensor:
    r"""The share of pairs of classes that still give the student a gradient.

    A pair is live where :math:`1 - \tanh^2(k (s_i - s_j))` is above ``threshold``: beyond that its
    factor in the gradient of the ranking loss (Eq. 11 of the paper) is as good as zero.

    Args:
        preds_S: student logits, floating point, classes in ``dim``.
        steepness: k > 0, per unit of logit.
        dim: the dimension of the classes.
        threshold: in (0, 1).

    Returns:
        float32, the shape of ``preds_S`` without ``dim``, between 0 and 1; 1 for a single class.

    Raises:
        ValueError: ``steepness`` or ``threshold`` out of range.

    Cost:
        O(N C log C) time, O(N C) memory.

    Example:
        >>> import torch
        >>> live_pair_share(torch.tensor([[0.0, 0.01, 9.0]]), steepness=100).item()
        0.3333333432674408
    """
    if not (math.isfinite(steepness) and steepness > 0):
        raise ValueError(f'steepness must be positive and finite, got {steepness}')
    if not 0 < threshold < 1:
        raise ValueError(f'threshold must lie between 0 and 1, got {threshold}')
    rows = preds_S.detach().movedim(dim, -1).double()
    num_classes = rows.shape[-1]
    if num_classes < 2:
        return rows.new_ones(rows.shape[:-1], dtype=torch.float32)
    width = math.atanh(math.sqrt(1 - threshold)) / steepness
    ordered = rows.sort(dim=-1).values.contiguous()
    end = torch.searchsorted(ordered, ordered + width)
    index = torch.arange(1, num_classes + 1, device=rows.device)
    live = (end - index).clamp(min=0).sum(dim=-1)
    return (live / (num_classes * (num_classes - 1) / 2)).float()

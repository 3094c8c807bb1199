"""The definition of the ranking loss: the oracle of every test.

It holds (N, C, C) tensors, so it is for small inputs and for reading.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmkendall.functional.classes import made_finite

# The surrogates that read the order alone of the teacher, who then has no gradient.
ORDER_ONLY = ('hard_teacher', 'logistic')


def unavailable(
    device: torch.device, dtype: torch.dtype, num_classes: int, surrogate: str
) -> str | None:
    """Nothing stops the definition but memory."""
    return None


def zero_or_nan(preds_S: Tensor, preds_T: Tensor) -> Tensor:
    """(N,): 0 for a row that is finite in both, else NaN: x - x is that, with a gradient of 0."""
    return ((preds_S - preds_S) + (preds_T - preds_T)).sum(dim=1)


def agreement(delta_S: Tensor, delta_T: Tensor, steepness: float, surrogate: str) -> Tensor:
    """How much a pair of classes agrees in order, elementwise.

    From -1 to 1, but for ``'logistic'``: there, minus softplus, and 0 where the teacher ties.

    Args:
        delta_S: differences of the student's logits.
        delta_T: differences of the teacher's logits, same shape.
        steepness: k.
        surrogate: one of ``SURROGATES``.
    """
    if surrogate == 'product':
        return torch.tanh(steepness * delta_T) * torch.tanh(steepness * delta_S)
    if surrogate == 'diffkendall':
        return torch.tanh(steepness * (delta_T * delta_S))
    if surrogate == 'logistic':
        wrong_by = -steepness * (torch.sign(delta_T) * delta_S)
        # By default softplus is a straight line from 20 on, which is off by 2e-9 there.
        softplus = torch.nn.functional.softplus(wrong_by, threshold=50)
        return -softplus.masked_fill(delta_T == 0, 0)
    return torch.sign(delta_T) * torch.tanh(steepness * delta_S)


def no_agreement(surrogate: str) -> float:
    """The loss where no pair agrees or disagrees, from which the mean agreement is taken."""
    return 0.0 if surrogate == 'logistic' else 1.0


def rank_loss(preds_S: Tensor, preds_T: Tensor, steepness: float, surrogate: str) -> Tensor:
    """The loss of each row by the definition, differentiable any number of times.

    Args:
        preds_S: (N, C) student logits.
        preds_T: (N, C) teacher logits.
        steepness: k.
        surrogate: one of ``SURROGATES``.

    Returns:
        (N,) losses: over the pairs of classes that count, 0 where there is none, NaN for a row
        with a NaN, a plus infinity or a minus infinity in the student alone.
    """
    preds_S, preds_T, counts = made_finite(preds_S, preds_T, steepness)
    delta_S = preds_S.unsqueeze(2) - preds_S.unsqueeze(1)
    delta_T = preds_T.unsqueeze(2) - preds_T.unsqueeze(1)
    counted_pairs = counts.unsqueeze(2) & counts.unsqueeze(1)
    agreements = agreement(delta_S, delta_T, steepness, surrogate).masked_fill(~counted_pairs, 0)
    # Both (i, j) and (j, i) are in the sum, and a class against itself adds nothing.
    total = agreements.sum(dim=(1, 2))
    num_classes = counts.sum(dim=1)
    pairs = num_classes * (num_classes - 1)
    losses = no_agreement(surrogate) - total / pairs.clamp(min=1)
    losses = losses.masked_fill(pairs == 0, 0)
    return losses + zero_or_nan(preds_S, preds_T).detach()

"""What the ranking loss can see of given logits."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mmkendall.functional.checks import check_same_shape_and_device
from mmkendall.functional.classes import made_finite
from mmkendall.functional.rank_loss import SURROGATES

# Pairs looked at together: a few float64 tensors of this size.
TILE_ELEMENTS = 1 << 20


def live_pair_share(
    preds_S: Tensor, steepness: float = 10.0, *, dim: int = 1, threshold: float = 1e-3
) -> Tensor:
    r"""The share of pairs of classes that still give the student a gradient.

    A pair is live where :math:`1 - \tanh^2(k (s_i - s_j))` is above ``threshold``: beyond that its
    factor in the gradient of the ranking loss is as good as zero. That is so of the surrogates
    ``'product'`` and ``'hard_teacher'``; :func:`pair_shares` knows the others.

    Args:
        preds_S: student logits, floating point, classes in ``dim``. A class that is minus
            infinity, as a masked one, does not count.
        steepness: k > 0, per unit of logit.
        dim: the dimension of the classes.
        threshold: in (0, 1).

    Returns:
        float32, the shape of ``preds_S`` without ``dim``, between 0 and 1; 1 where fewer than two
        classes count.

    Raises:
        ValueError: ``steepness`` or ``threshold`` out of range.

    Cost:
        O(N C log C) time, O(N C) memory.

    Example:
        >>> import torch
        >>> live_pair_share(torch.tensor([[0.0, 0.01, 9.0]]), steepness=100).item()
        0.3333333432674408
    """
    _check_range(steepness, threshold)
    rows = preds_S.detach().movedim(dim, -1).double()
    width = math.atanh(math.sqrt(1 - threshold)) / steepness
    ordered = rows.sort(dim=-1).values.contiguous()
    # A minus infinity plus a width still stands at place 0, so it comes to no pair.
    end = torch.searchsorted(ordered, ordered + width)
    index = torch.arange(1, rows.shape[-1] + 1, device=rows.device)
    live = (end - index).clamp(min=0).sum(dim=-1)
    number = (rows != -math.inf).sum(dim=-1)
    pairs = number * (number - 1) / 2
    return torch.where(number < 2, 1.0, live / pairs.clamp(min=1)).float()


class PairShares(NamedTuple):
    """Shares of all pairs of classes, float32 each, the shape of the logits without ``dim``."""

    live: Tensor
    wrong: Tensor
    wrong_live: Tensor


@torch.no_grad()
def pair_shares(
    preds_S: Tensor,
    preds_T: Tensor,
    steepness: float = 10.0,
    surrogate: str = 'product',
    *,
    dim: int = 1,
    threshold: float = 1e-3,
) -> PairShares:
    r"""Which pairs of classes the student has the wrong way round, and which the loss still sees.

    A pair is wrong where student and teacher order it differently, and live, as in
    :func:`live_pair_share`, where :math:`1 - \tanh^2` of what the loss takes the tanh of is above
    ``threshold``: of :math:`k (s_i - s_j)`, and with ``'diffkendall'`` of
    :math:`k (t_i - t_j)(s_i - s_j)`. With ``'logistic'`` its factor is the sigmoid of
    :math:`-k\,\mathrm{sign}(t_i - t_j)(s_i - s_j)`, and 0 where the teacher ties: a wrong pair is
    live at every threshold up to a half. A pair that is tied on either side is not wrong.

    Args:
        preds_S: student logits, floating point, classes in ``dim``.
        preds_T: teacher logits, the same shape and device. As in the loss, a class that is minus
            infinity in both does not count, and one that is in the teacher alone is the last.
        steepness: k > 0, per unit of logit.
        surrogate: that of the loss.
        dim: the dimension of the classes.
        threshold: in (0, 1).

    Returns:
        The shares of the pairs that are live, wrong, and both. ``wrong_live / wrong`` is how many
        of the mistakes the loss can still mend. Fewer than two classes that count have no pairs:
        1, 0 and 0.

    Raises:
        ValueError: an option out of range, or shapes or devices that differ.

    Cost:
        O(N C^2) time, O(N C) memory beside a fixed tile.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[0.0, 0.01, 9.0]]), torch.tensor([[3.0, 2.0, 1.0]])
        >>> live, wrong, wrong_live = pair_shares(student, teacher, steepness=100)
        >>> wrong.item(), round(wrong_live.item(), 3)
        (1.0, 0.333)
    """
    _check_range(steepness, threshold)
    if surrogate not in SURROGATES:
        raise ValueError(f'surrogate must be one of {SURROGATES}, got {surrogate!r}')
    check_same_shape_and_device(preds_S, preds_T)
    rows_S, rows_T = (preds.movedim(dim, -1).double() for preds in (preds_S, preds_T))
    shape, num_classes = rows_S.shape[:-1], rows_S.shape[-1]
    rows_S, rows_T = (rows.reshape(-1, num_classes) for rows in (rows_S, rows_T))
    rows_S, rows_T, counted = made_finite(rows_S, rows_T, steepness)
    width = math.atanh(math.sqrt(1 - threshold)) / steepness
    shares = rows_S.new_zeros((3, len(rows_S)))
    two = ~torch.eye(num_classes, dtype=torch.bool, device=rows_S.device)
    size = max(1, TILE_ELEMENTS // max(1, num_classes**2))
    for first in range(0, len(rows_S), size):
        part = slice(first, first + size)
        gaps_S, gaps_T = (
            rows[part].unsqueeze(2) - rows[part].unsqueeze(1) for rows in (rows_S, rows_T)
        )
        pairs = counted[part].unsqueeze(2) & counted[part].unsqueeze(1) & two
        products = gaps_S * gaps_T
        if surrogate == 'logistic':
            lead = math.log(1 / threshold - 1) / steepness
            live = (gaps_T.sign() * gaps_S < lead) & (gaps_T != 0) & pairs
        else:
            seen = products if surrogate == 'diffkendall' else gaps_S
            live = (seen.abs() < width) & pairs
        wrong = (products < 0) & pairs
        counts = torch.stack([kind.sum(dim=(1, 2)) for kind in (live, wrong, live & wrong)])
        shares[:, part] = counts / pairs.sum(dim=(1, 2)).clamp(min=1)
    shares[0].masked_fill_(counted.sum(dim=1) < 2, 1)
    return PairShares(*shares.float().reshape(3, *shape))


def _check_range(steepness: float, threshold: float) -> None:
    if not (math.isfinite(steepness) and steepness > 0):
        raise ValueError(f'steepness must be positive and finite, got {steepness}')
    if not 0 < threshold < 1:
        raise ValueError(f'threshold must lie between 0 and 1, got {threshold}')

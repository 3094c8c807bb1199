"""Figures of what the losses on logits do, from the logits and the gradients of an iteration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from mmkendall.engine.logit_groups import Group, log_labels
from mmkendall.functional import kendall_tau, pair_shares
from mmkendall.functional.classes import counted_classes
from mmkendall.functional.rank_loss import ranked_rows
from mmkendall.models.losses import KendallRankLoss

# Pairs looked at in one measurement: all of a batch of 256 with 100 classes, 16 rows with 1,000.
MAX_PAIRS = 1 << 24
MAX_CLASSES = 2048


class Seen(NamedTuple):
    """What one call for the losses showed, for one group."""

    student: Tensor
    teacher: Tensor
    grad_logit: Tensor | None
    grad_rank: Tensor | None
    ranked: dict[str, tuple]


def group_figures(group: Group, seen: list[Seen], weights: Sequence[float]) -> dict[str, Tensor]:
    """Figures of one group from its calls, one a teacher, whose weights add up to 1."""
    figures = {}
    taus = [
        kendall_tau(
            one.student,
            one.teacher,
            dim=group.dim,
            class_mask=counted_classes(one.student, one.teacher),
        ).nanmean()
        for one in seen
    ]
    figures['tau'] = _weighted(taus, weights)
    for name, label in zip(group.rank, log_labels(list(group.rank)), strict=True):
        shares = [pair_figures(*one.ranked[name]) for one in seen]
        suffix = f'_{label}' if len(group.rank) > 1 else ''
        for figure, values in zip(
            ('live_pairs', 'live_wrong_pairs'), zip(*shares, strict=True), strict=True
        ):
            figures[figure + suffix] = _weighted(values, weights)
    norms = {}
    for kind in ('logit', 'rank'):
        gradients = [getattr(one, f'grad_{kind}') for one in seen]
        if any(gradient is None for gradient in gradients):
            continue
        gradients = [weight * grad for weight, grad in zip(weights, gradients, strict=True)]
        low = sum(
            _low_half(gradient, one.teacher, group.dim)
            for gradient, one in zip(gradients, seen, strict=True)
        )
        figures[f'low_half_{kind}'] = low / sum(gradient.abs().sum() for gradient in gradients)
        norms[kind] = sum(gradients).norm()
    if len(norms) == 2:
        figures['norm_ratio'] = norms['rank'] / norms['logit']
    return figures


def _weighted(values: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    return sum(weight * value for weight, value in zip(weights, values, strict=True))


def _low_half(gradient: Tensor, preds_T: Tensor, dim: int) -> Tensor:
    """The absolute gradient on the half of the classes that the teacher puts lowest."""
    lowest = preds_T.topk(preds_T.shape[dim] // 2, dim=dim, largest=False).indices
    return gradient.abs().gather(dim, lowest).sum()


def pair_figures(
    loss: KendallRankLoss,
    preds_S: Tensor,
    preds_T: Tensor,
    mask: Tensor | None,
    class_mask: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Shares of live pairs, of all pairs and of the wrong ones, as the loss ranks the logits."""
    preds_S, preds_T, dim = preds_S.float(), preds_T.float(), loss.dim % preds_S.dim()
    if loss.across == 'batch':
        # The images are ranked, class by class: they are the columns, and the classes the rows.
        if class_mask is not None and class_mask.dim() == 2:
            hidden, class_mask = ~class_mask, None
            preds_S, preds_T = (
                preds.masked_fill(hidden, -math.inf) for preds in (preds_S, preds_T)
            )
        dim, mask, class_mask = 0, class_mask, mask
    options = (loss.topk, loss.mink, loss.standardize)
    rows_S, rows_T = ranked_rows(preds_S, preds_T, dim, mask, class_mask, *options)
    has_pairs = counted_classes(rows_S, rows_T).sum(dim=1) > 1
    rows_S, rows_T = rows_S[has_pairs], rows_T[has_pairs]
    step = math.ceil(rows_S.shape[1] / MAX_CLASSES) or 1
    rows_S, rows_T = rows_S[:, ::step], rows_T[:, ::step]
    num_rows = max(1, MAX_PAIRS // max(1, rows_S.shape[1] ** 2))
    step = math.ceil(len(rows_S) / num_rows) or 1
    shares = pair_shares(rows_S[::step], rows_T[::step], loss.steepness, loss.surrogate)
    return shares.live.mean(), shares.wrong_live.sum() / shares.wrong.sum()

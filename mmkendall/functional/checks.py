"""What several losses check and prepare."""

from __future__ import annotations

import math
from numbers import Real

import torch
import torch.nn.functional as F
from torch import Tensor

REDUCTIONS = ('none', 'mean', 'sum')


def check_positive(**options: float) -> None:
    """Raises ValueError for an option that is no positive, finite number."""
    for name, value in options.items():
        if not _is_number(value) or value <= 0:
            raise ValueError(f'{name} must be positive and finite, got {value!r}')


def check_not_negative(**options: float) -> None:
    """Raises ValueError for an option that is no finite number of 0 at least."""
    for name, value in options.items():
        if not _is_number(value) or value < 0:
            raise ValueError(f'{name} must be 0 at least and finite, got {value!r}')


def check_same_shape(preds_S: Tensor, preds_T: Tensor) -> None:
    """Raises ValueError unless both are logits (N, C) of one shape, C of two at least."""
    if preds_S.dim() != 2 or preds_S.shape != preds_T.shape:
        raise ValueError(
            'preds_S and preds_T must be logits (N, C) of one shape, got '
            f'{tuple(preds_S.shape)} and {tuple(preds_T.shape)}'
        )

    if preds_S.shape[1] < 2:
        raise ValueError(
            f'preds_S and preds_T of shape {tuple(preds_S.shape)} have one class, whose softmax '
            'is 1 whatever its logit is, so this loss would be 0 for ever: take a loss on the '
            'logit itself or on its sigmoid'
        )


def check_labels(gt_labels: Tensor, preds_S: Tensor) -> None:
    """Raises ValueError unless there is one class index for each row of logits (N, C)."""
    if gt_labels.shape != preds_S.shape[:1] or gt_labels.is_floating_point():
        raise ValueError(
            f'gt_labels must hold one class index a row, ({len(preds_S)},), got '
            f'{tuple(gt_labels.shape)} of {gt_labels.dtype}; mixed labels have no target class'
        )


def check_same_shape_and_device(preds_S: Tensor, preds_T: Tensor) -> None:
    """Raises ValueError unless both are of one shape and on one device."""
    if preds_S.shape != preds_T.shape or preds_S.device != preds_T.device:
        raise ValueError(
            'preds_S and preds_T must have the same shape and device, got '
            f'{tuple(preds_S.shape)} on {preds_S.device} and '
            f'{tuple(preds_T.shape)} on {preds_T.device}'
        )


def check_reduction(reduction: str) -> None:
    """Raises ValueError for a reduction that there is not."""
    if reduction not in REDUCTIONS:
        raise ValueError(f'reduction must be one of {REDUCTIONS}, got {reduction!r}')


def reduced(losses: Tensor, reduction: str) -> Tensor:
    """Losses of rows as they are, their sum, or their mean."""
    if reduction == 'mean':
        return mean_over_rows(losses)
    return losses.sum() if reduction == 'sum' else losses


def mean_over_rows(losses: Tensor) -> Tensor:
    """The mean of losses of rows; 0 with a gradient of 0 where there are none."""
    return losses.sum() / max(losses.numel(), 1)


def log_softmax(preds: Tensor, temperature: float | Tensor) -> Tensor:
    """Log-probabilities (N, C) at a temperature; a class of minus infinity keeps probability 0."""
    is_hidden = preds == -math.inf
    # Not divided itself: the temperature would get a NaN for a gradient.
    scaled = (preds.masked_fill(is_hidden, 0) / temperature).masked_fill(is_hidden, -math.inf)
    return F.log_softmax(scaled, dim=1)


def kl_divergence(log_S: Tensor, log_T: Tensor) -> Tensor:
    """KL(T || S) of each row (N,); a class to which the teacher gives nothing adds nothing."""
    # 0 in both is a difference and a gradient of 0; 0 times infinity would be neither.
    hidden = log_T == -math.inf
    log_S, log_T = log_S.masked_fill(hidden, 0), log_T.masked_fill(hidden, 0)
    return F.kl_div(log_S, log_T, reduction='none', log_target=True).sum(dim=1)


def at_least_float32(preds: Tensor) -> Tensor:
    """Half-precision logits as float32, others as they are."""
    return preds.to(torch.promote_types(preds.dtype, torch.float32))


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)

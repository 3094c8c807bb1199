"""Kendall's tau itself: exact, tie-aware, a metric without gradient."""

from __future__ import annotations

import torch
from torch import Tensor

# Pairs held at once.
TILE_ELEMENTS = 1 << 20


@torch.no_grad()
def kendall_tau(preds_S: Tensor, preds_T: Tensor, *, dim: int = 1) -> Tensor:
    r"""Kendall's tau-b between two rankings of the classes, exact and aware of ties.

    .. math::
        \tau_b = \frac{\sum_{i<j} \mathrm{sign}(t_i - t_j)\,\mathrm{sign}(s_i - s_j)}
                      {\sqrt{(n_0 - n_S)(n_0 - n_T)}}

    with :math:`n_0 = C(C-1)/2` pairs, of which :math:`n_S` and :math:`n_T` are tied in the student
    and in the teacher (Kendall, "The treatment of ties in ranking problems", Biometrika 1945).
    Equal to ``scipy.stats.kendalltau(..., variant='b')``.

    Args:
        preds_S: student logits, (N, C), (N, C, ...) or, with ``dim=-1``, (..., C), floating point.
        preds_T: teacher logits, same shape and device.
        dim: the dimension of the classes.

    Returns:
        float64, the shape of ``preds_S`` without ``dim``, between -1 and 1. NaN where either row
        is constant, has a single class or holds a NaN.

    Raises:
        TypeError: not a tensor.
        ValueError: shapes or devices that differ, or no such ``dim``.
    """
    for name, preds in (('preds_S', preds_S), ('preds_T', preds_T)):
        if not isinstance(preds, Tensor):
            raise TypeError(f'{name} must be a torch.Tensor, got {type(preds).__name__}')
    if preds_S.shape != preds_T.shape or preds_S.device != preds_T.device:
        raise ValueError(
            'preds_S and preds_T must have the same shape and device, got '
            f'{tuple(preds_S.shape)} on {preds_S.device} and '
            f'{tuple(preds_T.shape)} on {preds_T.device}'
        )
    if not -preds_S.dim() <= dim < preds_S.dim():
        raise ValueError(f'dim={dim} is not a dimension of logits of shape {tuple(preds_S.shape)}')
    rows_S, rows_T = (preds.movedim(dim, -1) for preds in (preds_S, preds_T))
    shape, num_classes = rows_S.shape[:-1], rows_S.shape[-1]
    rows_S, rows_T = (rows.reshape(-1, num_classes) for rows in (rows_S, rows_T))

    # Per row: concordant minus discordant pairs, and the pairs not tied in either ranking, each
    # counted twice: once as (i, j) and once as (j, i).
    counts = torch.zeros(3, rows_S.shape[0], dtype=torch.float64, device=rows_S.device)
    block = max(1, TILE_ELEMENTS // max(1, rows_S.shape[0] * num_classes))
    for i in range(0, num_classes, block):
        sign_S, sign_T = (
            (rows[:, i : i + block, None] - rows[:, None, :]).sign() for rows in (rows_S, rows_T)
        )
        counts[0] += (sign_S * sign_T).sum(dim=(1, 2), dtype=torch.float64)
        counts[1] += sign_S.square().sum(dim=(1, 2), dtype=torch.float64)
        counts[2] += sign_T.square().sum(dim=(1, 2), dtype=torch.float64)
    score, untied_S, untied_T = counts
    return (score / (untied_S * untied_T).sqrt()).reshape(shape)

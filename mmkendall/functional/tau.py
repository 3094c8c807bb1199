"""Kendall's tau itself: exact, tie-aware, a metric without gradient."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mmkendall.functional.backends import numba_cpu
from mmkendall.functional.backends.eager import count_inversions
from mmkendall.functional.checks import check_same_shape_and_device
from mmkendall.functional.classes import check_class_mask, rows_by_size
from mmkendall.functional.ties import first_of_equals

# Elements sorted at once without Numba: a few int64 tensors of this size.
CHUNK_ELEMENTS = {'cpu': 1 << 17, 'other': 1 << 23}


@torch.no_grad()
def kendall_tau(
    preds_S: Tensor, preds_T: Tensor, *, dim: int = 1, class_mask: Tensor | None = None
) -> Tensor:
    r"""Kendall's tau-b between two rankings of the classes, exact and aware of ties.

    .. math::
        \tau_b = \frac{\sum_{i<j} \mathrm{sign}(t_i - t_j)\,\mathrm{sign}(s_i - s_j)}
                      {\sqrt{(n_0 - n_S)(n_0 - n_T)}}

    with :math:`n_0 = C(C-1)/2` pairs, of which :math:`n_S` and :math:`n_T` are tied in the student
    and in the teacher (Kendall, "The treatment of ties in ranking problems", Biometrika 1945).
    Equal to ``scipy.stats.kendalltau(..., variant='b')``.

    Args:
        preds_S: student logits, (N, C), (N, C, ...) or, with ``dim=-1``, (..., C): floating point,
            or integers, such as ranks or votes, which are told apart up to 2**53.
        preds_T: teacher logits, same shape and device.
        dim: the dimension of the classes.
        class_mask: bool, (C,) or the shape of ``preds_S``: which classes count. The others are
            left out, whatever they hold. An infinity is a value like any other here, the highest
            or the lowest: classes that are minus infinity because they are masked need the mask.

    Cost:
        O(N C log C) time, O(N C) memory; compiled loops on a CPU with Numba, else torch.

    Returns:
        float64, the shape of ``preds_S`` without ``dim``, between -1 and 1. NaN where either row
        is constant, has a single class that counts or holds a NaN.

    Raises:
        TypeError: not a tensor, complex numbers, or a ``class_mask`` that is not bool.
        ValueError: shapes or devices that differ, or no such ``dim``.
    """
    for name, preds in (('preds_S', preds_S), ('preds_T', preds_T)):
        if not isinstance(preds, Tensor):
            raise TypeError(f'{name} must be a torch.Tensor, got {type(preds).__name__}')
        if preds.is_complex():
            raise TypeError(f'{name} must hold numbers that have an order, got {preds.dtype}')
    check_same_shape_and_device(preds_S, preds_T)
    if not -preds_S.dim() <= dim < preds_S.dim():
        raise ValueError(f'dim={dim} is not a dimension of logits of shape {tuple(preds_S.shape)}')
    dim %= preds_S.dim()
    check_class_mask(class_mask, preds_S, dim)
    rows_S, rows_T = (preds.movedim(dim, -1) for preds in (preds_S, preds_T))
    shape, num_classes = rows_S.shape[:-1], rows_S.shape[-1]
    rows_S, rows_T = (rows.reshape(-1, num_classes) for rows in (rows_S, rows_T))

    if class_mask is None:
        return _tau_of_rows(rows_S, rows_T).reshape(shape)
    if class_mask.dim() == preds_S.dim():
        class_mask = class_mask.movedim(dim, -1).reshape(-1, num_classes)
    tau = rows_S.new_full(rows_S.shape[:1], math.nan, dtype=torch.float64)
    for _, rows, columns in rows_by_size(class_mask.expand(rows_S.shape)):
        places = rows[:, None], columns
        tau[rows] = _tau_of_rows(rows_S[places], rows_T[places])
    return tau.reshape(shape)


def _tau_of_rows(rows_S: Tensor, rows_T: Tensor) -> Tensor:
    """Tau-b of rows (N, C): (N,) float64."""
    num_classes = rows_S.shape[1]
    tau = torch.full((rows_S.shape[0],), math.nan, dtype=torch.float64, device=rows_S.device)
    if num_classes > 1 and len(tau):
        dtype = torch.float32
        for rows in (rows_S, rows_T):
            # float32 would make ties of integers beyond 2**24.
            exact = rows.dtype if rows.is_floating_point() else torch.float64
            dtype = torch.promote_types(dtype, exact)
        rows_S, rows_T = (rows.to(dtype).contiguous() for rows in (rows_S, rows_T))
        if numba_cpu.unavailable(tau.device, dtype, num_classes, 'product') is None:
            numba_cpu.tau_b(rows_S, rows_T, tau)
        else:
            budget = CHUNK_ELEMENTS['cpu' if tau.device.type == 'cpu' else 'other']
            size = max(1, budget // num_classes)
            for first in range(0, len(tau), size):
                part = slice(first, first + size)
                tau[part] = _tau_b(rows_S[part], rows_T[part])
    return tau.clamp(-1, 1)  # Which rounding leaves by 2e-16.


def _tau_b(rows_S: Tensor, rows_T: Tensor) -> Tensor:
    """Tau-b of rows (N, C): discordant pairs are the inversions after sorting by (t, s)."""
    num_classes = rows_S.shape[1]
    ranks_S, ranks_T = _dense_ranks(rows_S), _dense_ranks(rows_T)
    tied_S, tied_T = _tied_pairs(ranks_S), _tied_pairs(ranks_T)
    joint = (ranks_T * num_classes + ranks_S).sort(dim=1).values
    tied_both = _tied_pairs(joint)
    # Ties in s become an ascending run, which has no inversion.
    ranks = (joint % num_classes).sort(dim=1, stable=True).indices.argsort(dim=1)
    pairs = num_classes * (num_classes - 1) // 2
    score = pairs - tied_S - tied_T + tied_both - 2 * count_inversions(ranks)
    untied = (pairs - tied_S).double().sqrt() * (pairs - tied_T).double().sqrt()
    poison = (rows_S.isnan() | rows_T.isnan()).any(dim=1)
    return (score / untied).masked_fill(poison, math.nan)


def _dense_ranks(rows: Tensor) -> Tensor:
    """0 for the lowest of each row, equal logits share a rank."""
    ordered, order = rows.sort(dim=1)
    steps = torch.zeros_like(order)
    steps[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    return torch.empty_like(order).scatter_(1, order, steps.cumsum(dim=1))


def _tied_pairs(ranks: Tensor) -> Tensor:
    """How many pairs of each row are equal."""
    ordered = ranks.sort(dim=1).values
    index = torch.arange(ordered.shape[1], device=ordered.device)
    return (index - first_of_equals(ordered)).sum(dim=1)

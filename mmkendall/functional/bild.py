"""The divergence of the differences between the highest logits."""

from __future__ import annotations

import math
from numbers import Integral

import torch
from torch import Tensor

from mmkendall.functional.checks import (
    check_positive,
    check_reduction,
    check_same_shape,
    kl_divergence,
    log_softmax,
)
from mmkendall.functional.masks import Counted, counted


def bild_loss(
    preds_S: Tensor,
    preds_T: Tensor,
    temperature: float = 3.0,
    topk: int = 8,
    reduction: str = 'mean',
    *,
    mask: Tensor | None = None,
    class_mask: Tensor | None = None,
) -> Tensor:
    r"""Bi-directional logits difference: KL of the differences between the highest logits.

    With :math:`\pi` the classes of the K highest teacher logits, in descending order, and
    :math:`\rho` those of the student's,

    .. math::
        L = \mathrm{KL}\left(d(t, \pi) \,\|\, d(s, \pi)\right)
        + \mathrm{KL}\left(d(t, \rho) \,\|\, d(s, \rho)\right), \qquad
        d(x, \pi) = \mathrm{softmax}_{i < j} \left(\frac{x_{\pi_i} - x_{\pi_j}}{T}\right)

    The softmax goes over all K (K - 1) / 2 pairs, so most of a teacher's weight lies on the pairs
    that it holds farthest apart. What the other classes are is not looked at.

    Source: Li, Zhou and Song, "BiLD: Bi-directional Logits Difference Loss for Large Language
    Model Distillation", COLING 2025, arXiv 2406.13555, and the published code, which has either
    half of the sum. The masks and the treatment of unknown classes are ours.

    A class does not count where ``class_mask`` is False, whatever its logits are, or where it is
    minus infinity in both logits. A row in which fewer than two classes count does not count. A
    class that is minus infinity in the teacher alone is unknown and in no pair; a row of which
    the teacher knows fewer than two classes gives 0. Which of equal logits comes first, and which
    of them are taken at the cut, is not said. The loss does not see a shift of either logits, but
    it sees their scale.

    Args:
        preds_S: student logits, (N, C), C of 2 at least. float16, bfloat16, float32 or float64;
            the computation is float32 or better.
        preds_T: teacher logits, the same shape. They get a gradient only when they require one.
        temperature: T > 0, of both. Defaults to 3, the authors' own.
        topk: K, 2 at least; all where there are fewer classes. Defaults to 8, the authors' own.
        reduction: ``'none'``, ``'mean'`` over the rows that count, or ``'sum'``.
        mask: bool, (N,): which rows count. The others give 0 under ``'none'`` and no gradient.
        class_mask: bool, (C,) or (N, C): which classes count. The others get no gradient.

    Returns:
        Scalar, 0 where no row counts; (N,) under ``'none'``. float64 for float64, else float32. A
        row gives NaN if a class that counts is NaN or plus infinity in either logits, or minus
        infinity in the student alone and taken.

    Raises:
        TypeError: a mask that is not a bool tensor.
        ValueError: an option out of its range, shapes that don't fit, or a single class.

    Cost:
        O(N (C log K + K^2)) time and O(N (C + K^2)) memory.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[2.0, 1.0, 0.0]])
        >>> round(bild_loss(logits, logits).item(), 6)
        0.0
        >>> round(bild_loss(logits, logits.flip(1)).item(), 4)
        0.0982
    """
    check_positive(temperature=temperature)
    check_num_highest(topk)
    check_reduction(reduction)
    check_same_shape(preds_S, preds_T)
    rows = counted(preds_S, preds_T, mask, class_mask)
    losses = _led_by(rows.teacher, rows, temperature, topk)
    losses = losses + _led_by(rows.student, rows, temperature, topk)
    return rows.reduced(losses, reduction)


def check_num_highest(topk: int) -> None:
    """Raises ValueError for what is no number of classes between which there are differences."""
    if not isinstance(topk, Integral) or isinstance(topk, bool) or topk < 2:
        raise ValueError(f'topk must be an integer of 2 at least, got {topk!r}')


def _led_by(leader: Tensor, rows: Counted, temperature: float, topk: int) -> Tensor:
    """The divergence (N,) over the pairs of the leader's highest logits."""
    known = rows.classes & (rows.teacher != -math.inf)
    count = min(topk, leader.shape[1])
    places = leader.detach().masked_fill(~known, -math.inf).topk(count, dim=1).indices
    known = known.gather(1, places)
    first, second = torch.triu_indices(count, count, 1, device=leader.device)
    pairs = known[:, first] & known[:, second]
    # Without any pair all stand at 0 in both, which adds nothing.
    absent = ~pairs & pairs.any(dim=1, keepdim=True)
    logs = []
    for logits in (rows.student, rows.teacher):
        chosen = logits.gather(1, places).masked_fill(~known, 0)
        differences = (chosen[:, first] - chosen[:, second]).masked_fill(~pairs, 0)
        logs.append(log_softmax(differences.masked_fill(absent, -math.inf), temperature))
    return kl_divergence(*logs)

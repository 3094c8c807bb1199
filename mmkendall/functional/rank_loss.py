"""The ranking loss as a function on tensors: argument checks, selection, reduction, autograd."""

from __future__ import annotations

import math
from numbers import Integral, Real

import torch
from torch import Tensor

from mmkendall.functional.backends import BACKENDS, reference
from mmkendall.functional.backends.reference import zero_or_nan
from mmkendall.functional.checks import check_reduction
from mmkendall.functional.classes import (
    check_bool_mask,
    check_class_mask,
    counted_classes,
    made_finite,
)
from mmkendall.functional.operator import RankLoss, in_transform, needs_operator
from mmkendall.functional.standardize import standardize as standardize_counted

SURROGATES = ('product', 'diffkendall', 'hard_teacher', 'logistic')


def kendall_rank_loss(
    preds_S: Tensor,
    preds_T: Tensor,
    steepness: float = 10.0,
    surrogate: str = 'product',
    reduction: str = 'mean',
    *,
    dim: int = 1,
    mask: Tensor | None = None,
    class_mask: Tensor | None = None,
    topk: int | float | None = None,
    mink: int | float | None = None,
    standardize: bool = False,
    backend: str = 'auto',
    compute_value: bool = True,
) -> Tensor:
    r"""One minus a differentiable Kendall tau between two rankings of the classes.

    With student logits s, teacher logits t and C classes,

    .. math::
        L = 1 - \frac{2}{C(C-1)} \sum_{i<j} \tanh(k (t_i - t_j)) \tanh(k (s_i - s_j))

    Source: Guan et al., "Enhancing Logits Distillation with Plug&Play Kendall's tau Ranking Loss",
    ICML 2025 (second-hand, see docs/sources.md).

    The loss lies between 0 and 2. It is 0 only where every pair is ordered as the teacher orders
    it and is far apart on the scale of ``1 / steepness``. A tied pair adds nothing. It is blind to
    a shift of the logits but not to their scale, unless ``standardize`` is set. Where
    ``steepness`` times the difference of a pair is large, the pair gives no gradient:
    :func:`live_pair_share` says how many still do.

    With ``surrogate='logistic'`` it is RankNet's loss in place of tau:

    .. math::
        L = \frac{2}{C(C-1)} \sum_{i<j,\, t_i \ne t_j}
            \log\bigl(1 + e^{-k\, \mathrm{sign}(t_i - t_j) (s_i - s_j)}\bigr)

    It is convex in the student's logits and has no upper bound: a pair in the wrong order gets a
    gradient however far apart it is. A pair that the teacher ties adds nothing, one that the
    student alone ties log 2. The order is all that it reads of the teacher, who gets no gradient.
    ``steepness`` is a factor of the gradient, as in the published form: 1 is RankNet's loss. At
    the default of 10, which is meant for tanh, the gradient is up to ten times as large.

    Not every class need count in every row: a masked vocabulary, classes that a search has taken
    out, a teacher of which only the highest logits were kept. A class does not count in a row

    - where ``class_mask`` is False, whatever its logits are, or
    - where it is minus infinity in both logits.

    The row's loss is then that of the other classes alone, as if the row had no more: a pair with
    a class that does not count adds nothing, C in the formula is the number of classes that count,
    and so it is in ``standardize`` and in a fraction of ``topk`` and ``mink``. A class that counts
    and is minus infinity in the teacher alone, like the logarithm of no votes, is last: below all
    finite ones by more than tanh can see, 20 / k, and tied with others of its kind.

    Args:
        preds_S: student logits, (N, C), (N, C, ...) or, with ``dim=-1``, (..., C). float16,
            bfloat16, float32 or float64; the computation is float32 or better.
        preds_T: teacher logits, same shape, dtype and device. They get a gradient only when they
            require one.
        steepness: k > 0, per unit of logit. Defaults to 10, which came out highest wherever it
            was measured here beside 1 and 100, on the digits and on letters, by less than what is
            certain. 100 is the best value that the paper reports for CIFAR-100 (second-hand).
        surrogate: ``'product'``, the paper's product of two tanh; ``'diffkendall'``, tanh of the
            product, :math:`\tanh(k \Delta t \Delta s)` (Zheng et al., DiffKendall, NeurIPS 2023);
            ``'hard_teacher'``, :math:`\mathrm{sign}(\Delta t) \tanh(k \Delta s)`; ``'logistic'``,
            see above (Burges et al., "Learning to Rank using Gradient Descent", ICML 2005, with
            the sigma of Burges, "From RankNet to LambdaRank to LambdaMART: An Overview", 2010, as
            docs/sources.md says; RankNet pulls tied pairs together, here they are left out).
        reduction: ``'none'``, ``'mean'`` over the rows that count, or ``'sum'``.
        dim: the dimension of the classes. 1 as in mmrazor's KLDivergence; -1 for sequences.
        mask: bool, shape of ``preds_S`` without ``dim``: which rows count. The others give 0 under
            ``'none'`` and no gradient, whatever they hold.
        class_mask: bool, (C,) or the shape of ``preds_S``: which classes count. The others get no
            gradient.
        topk: rank only the classes that the teacher puts highest: a count, or a fraction of C in
            (0, 1) that is rounded and is two at least. All, in a row where fewer count.
        mink: the same for the lowest classes. Not together with ``topk``.
        standardize: z-score both logits over the (selected) classes first, as LSKD does.
        backend: ``'auto'`` takes the fastest that runs on this input; ``'triton'`` (CUDA kernels),
            ``'numba'`` (compiled loops on the CPU), ``'eager'`` (torch operations) or
            ``'reference'`` (the definition, (N, C, C) memory) force one.
        compute_value: whether the value is wanted. False returns 0 for every row, with the right
            gradient, and saves the backends that can the work that only the value needs.

    Returns:
        A scalar, or, under ``'none'``, the shape of ``preds_S`` without ``dim``. float64 for
        float64 logits, else float32. A row gives NaN if a class that counts is NaN, plus infinity,
        or minus infinity in the student alone. One class alone has no order, so its loss is 0, and
        ``'mean'`` leaves out rows in which fewer than two classes count. The mean over no rows is
        0, with a gradient of 0.

    Raises:
        TypeError: an argument of the wrong type, dtypes that differ, or integer logits.
        ValueError: shapes or devices that differ, or a value outside its range.
        RuntimeError: ``backend`` names one that can't run on this input.

    Cost:
        O(N C) memory beside a fixed tile, and at most O(N C^2) time; less than that from a few
        hundred classes on, by sorting or on a grid (all backends but ``'reference'``). On a CPU,
        rows that do not count and rows in which a logit does not vary take O(C) time. With
        ``'logistic'`` O(N C log C) time, but that ``'triton'`` compares all pairs.

        But for ``'triton'``, rows in which different numbers of classes count are computed one
        number after the other.
        Inside of a transform of ``torch.func`` (``grad``, ``vmap``, ``jacrev``) the definition is
        computed, which takes O(N C^2) memory.

        ``'triton'`` waits for nothing. From 100,000 classes on ``'auto'`` asks for the ranges of
        the logits, as sums of sines are faster there where they are narrow. Torch operations on a
        GPU wait for their loss, to see whether it is NaN because of a minus infinity; inside of a
        CUDA graph, where nothing may wait, they leave such rows and rows with masked classes NaN.

    Example:
        >>> import torch
        >>> from mmkendall import kendall_rank_loss
        >>> teacher = torch.tensor([[3.0, 1.0, 0.0]])
        >>> abs(kendall_rank_loss(teacher, teacher).item()) < 1e-6
        True
        >>> round(kendall_rank_loss(-teacher, teacher).item(), 4)
        2.0
    """
    check_options(steepness, surrogate, reduction, topk, mink, standardize, backend, compute_value)
    _check_logits(preds_S, preds_T)
    dim = _check_dim(preds_S, dim)
    if mask is not None:
        _check_mask(mask, preds_S, dim)
    if class_mask is not None:
        check_class_mask(class_mask, preds_S, dim)
    rows_S, rows_T = ranked_rows(preds_S, preds_T, dim, mask, class_mask, topk, mink, standardize)
    average = reduction == 'mean' and mask is None and class_mask is None
    options = (float(steepness), surrogate, backend, compute_value, average)
    losses = _row_losses(rows_S, rows_T, *options)
    if average:
        return losses
    if mask is not None:
        # Already 0, unless torch operations ran in a CUDA graph.
        losses = losses.masked_fill(~mask.reshape(-1), 0)
    if reduction == 'none':
        return losses.reshape(preds_S.shape[:dim] + preds_S.shape[dim + 1 :])
    if reduction == 'sum':
        return losses.sum()
    return losses.sum() / _num_with_pairs(rows_S, rows_T)


def ranked_rows(
    preds_S: Tensor,
    preds_T: Tensor,
    dim: int,
    mask: Tensor | None,
    class_mask: Tensor | None,
    topk: int | float | None,
    mink: int | float | None,
    standardize: bool,
) -> tuple[Tensor, Tensor]:
    """What is ranked of the logits: rows (N, C), minus infinity in both where it does not count.

    The arguments are those of :func:`kendall_rank_loss`, checked, and ``dim`` is not negative.
    """
    num_classes = preds_S.shape[dim]
    num_selected = num_selected_classes(topk, mink, num_classes)
    rows_S, rows_T = _as_rows(preds_S, dim), _as_rows(preds_T, dim)
    if preds_S.dtype not in (torch.float32, torch.float64):
        rows_S, rows_T = rows_S.float(), rows_T.float()
    # What does not count is minus infinity in both from here on. Not a product with the mask: a
    # NaN that does not count must not come through.
    if mask is not None:
        rows_S, rows_T = _hide(~mask.reshape(-1, 1), rows_S, rows_T)
    if class_mask is not None:
        if class_mask.dim() == preds_S.dim():
            class_mask = _as_rows(class_mask, dim)
        rows_S, rows_T = _hide(~class_mask, rows_S, rows_T)
    selects = num_selected < num_classes
    hides = mask is not None or class_mask is not None
    if (selects or standardize) and not hides:
        hides = _may_hide(rows_T)
    if selects:
        fraction = None if isinstance(topk or mink, Integral) else topk or mink
        rows_S, rows_T = _select(rows_S, rows_T, num_selected, topk is not None, hides, fraction)
    if standardize:
        rows_S, rows_T = (_zscores(rows, hides) for rows in (rows_S, rows_T))
    return rows_S, rows_T


def _row_losses(
    rows_S: Tensor,
    rows_T: Tensor,
    steepness: float,
    surrogate: str,
    backend: str,
    compute_value: bool,
    average: bool,
) -> Tensor:
    """Losses (N,) of rows (N, C), or the mean of those that have a pair."""
    num_rows, num_classes = rows_S.shape
    if num_classes < 2 or num_rows == 0:
        losses = zero_or_nan(*made_finite(rows_S, rows_T, steepness)[:2])
    elif backend == 'reference' or in_transform():
        if backend not in ('auto', 'reference'):
            raise RuntimeError(
                f'backend {backend!r} cannot run inside of a transform of torch.func: pass '
                "backend='auto'"
            )
        losses = reference.rank_loss(rows_S, rows_T, steepness, surrogate)
        if not compute_value:
            losses = losses - losses.detach()
    else:
        rows = rows_S.contiguous(), rows_T.contiguous()
        return RankLoss.apply(*rows, steepness, surrogate, backend, compute_value, average)
    return losses.sum() / _num_with_pairs(rows_S, rows_T) if average else losses


def _num_with_pairs(rows_S: Tensor, rows_T: Tensor) -> Tensor:
    """How many rows have two classes that count, 1 if none has."""
    return (counted_classes(rows_S, rows_T).sum(dim=1) > 1).sum().clamp(min=1)


def _hide(hidden: Tensor, rows_S: Tensor, rows_T: Tensor) -> tuple[Tensor, Tensor]:
    """Rows whose ``hidden`` classes do not count."""
    return rows_S.masked_fill(hidden, -math.inf), rows_T.masked_fill(hidden, -math.inf)


def _may_hide(rows_T: Tensor) -> bool:
    """Whether the teacher has a minus infinity. True where asking would wait or break a graph."""
    if rows_T.device.type != 'cpu' or needs_operator(rows_T) or in_transform():
        return True
    # A NaN is greater than nothing, and may stand beside one.
    return rows_T.numel() > 0 and not rows_T.min().item() > -math.inf


def _zscores(rows: Tensor, hides: bool) -> Tensor:
    """Z-scores of each row, with less work where no class is minus infinity."""
    if hides:
        return standardize_counted(rows)
    centered = rows - rows.mean(dim=1, keepdim=True)
    # eps under the root, so that a constant row has a finite gradient.
    return centered * torch.rsqrt(centered.square().mean(dim=1, keepdim=True) + 1e-12)


def _select(
    rows_S: Tensor,
    rows_T: Tensor,
    num_selected: int,
    largest: bool,
    hides: bool,
    fraction: float | None,
) -> tuple[Tensor, Tensor]:
    """The teacher's highest or lowest classes, of those that count."""
    if not hides:
        chosen = rows_T.detach().topk(num_selected, dim=1, largest=largest).indices
        return rows_S.gather(1, chosen), rows_T.gather(1, chosen)
    _, order, counts = made_finite(rows_S.detach(), rows_T.detach(), 1.0)
    order = order.masked_fill(~counts, -math.inf if largest else math.inf)
    chosen = order.topk(num_selected, dim=1, largest=largest).indices
    rows_S, rows_T = rows_S.gather(1, chosen), rows_T.gather(1, chosen)
    if fraction is None:
        return rows_S, rows_T
    wanted = (counts.sum(dim=1, keepdim=True) * fraction).round().clamp(min=2)
    place = torch.arange(num_selected, device=rows_S.device)
    return _hide(place >= wanted, rows_S, rows_T)


def _as_rows(preds: Tensor, dim: int) -> Tensor:
    """(..., C, ...) as (N, C)."""
    if preds.dim() == 2 and dim == 1:
        return preds
    return preds.movedim(dim, -1).reshape(-1, preds.shape[dim])


def check_options(
    steepness: float,
    surrogate: str,
    reduction: str,
    topk: int | float | None,
    mink: int | float | None,
    standardize: bool,
    backend: str,
    compute_value: bool,
) -> None:
    """Raises TypeError or ValueError for what is wrong whatever the logits will be."""
    # An abstract class is asked only where the plain type is not the answer: it takes a while.
    if type(steepness) is not float and (
        not isinstance(steepness, Real) or isinstance(steepness, bool)
    ):
        raise TypeError(f'steepness must be a number, got {type(steepness).__name__}')
    if not 0 < steepness < math.inf:
        raise ValueError(f'steepness must be positive and finite, got {steepness}')
    if surrogate not in SURROGATES:
        raise ValueError(f'surrogate must be one of {SURROGATES}, got {surrogate!r}')
    check_reduction(reduction)
    for name, value in (('standardize', standardize), ('compute_value', compute_value)):
        if type(value) is not bool:
            raise TypeError(f'{name} must be a bool, got {type(value).__name__}')
    if backend != 'auto' and backend not in BACKENDS:
        known = ', '.join(repr(name) for name in ('auto', *BACKENDS))
        raise ValueError(f'backend must be one of {known}, got {backend!r}')
    if topk is None and mink is None:
        return
    if topk is not None and mink is not None:
        raise ValueError(f'pass topk or mink, not both, got topk={topk} and mink={mink}')
    for name, value in (('topk', topk), ('mink', mink)):
        if value is None:
            continue
        if not isinstance(value, Real) or isinstance(value, bool):
            raise TypeError(
                f'{name} must be an int (a count) or a float (a fraction), got {value!r}'
            )
        if isinstance(value, Integral) and value < 1:
            raise ValueError(f'{name} as a count must be 1 at least, got {value}')
        if not isinstance(value, Integral) and not 0 < value < 1:
            raise ValueError(
                f'{name} as a fraction must lie between 0 and 1, got {value}; '
                'pass an int for a count of classes'
            )


def _check_logits(preds_S: Tensor, preds_T: Tensor) -> None:
    for name, preds in (('preds_S', preds_S), ('preds_T', preds_T)):
        if not isinstance(preds, Tensor):
            raise TypeError(f'{name} must be a torch.Tensor, got {type(preds).__name__}')
        if not preds.is_floating_point():
            raise TypeError(f'{name} must hold floating-point logits, got dtype {preds.dtype}')
    if preds_S.shape != preds_T.shape:
        raise ValueError(
            'preds_S and preds_T must have the same shape, got '
            f'{tuple(preds_S.shape)} and {tuple(preds_T.shape)}'
        )
    if preds_S.device != preds_T.device:
        raise ValueError(
            'preds_S and preds_T must be on the same device, got '
            f'{preds_S.device} and {preds_T.device}'
        )
    if preds_S.dtype != preds_T.dtype:
        raise TypeError(
            'preds_S and preds_T must have the same dtype, got '
            f'{preds_S.dtype} and {preds_T.dtype}'
        )


def _check_dim(preds_S: Tensor, dim: int) -> int:
    if type(dim) is not int and (not isinstance(dim, Integral) or isinstance(dim, bool)):
        raise TypeError(f'dim must be an int, got {type(dim).__name__}')
    num_dims = preds_S.dim()
    if not -num_dims <= dim < num_dims:
        raise ValueError(
            f'dim={dim} is not a dimension of logits of shape {tuple(preds_S.shape)}; '
            'pass dim=-1 for logits (..., C)'
        )
    if preds_S.shape[dim] == 0:
        raise ValueError(f'logits of shape {tuple(preds_S.shape)} have no classes in dim={dim}')
    return dim % num_dims


def _check_mask(mask: Tensor, preds_S: Tensor, dim: int) -> None:
    check_bool_mask('mask', mask, preds_S)
    expected = preds_S.shape[:dim] + preds_S.shape[dim + 1 :]
    if mask.shape != expected:
        raise ValueError(
            f'mask must have the shape of the logits without dim={dim}, {tuple(expected)}, '
            f'got {tuple(mask.shape)}'
        )


def num_selected_classes(
    topk: int | float | None, mink: int | float | None, num_classes: int
) -> int:
    """How many of ``num_classes`` classes ``topk`` or ``mink`` leaves."""
    name, value = ('topk', topk) if mink is None else ('mink', mink)
    if value is None:
        return num_classes
    if not isinstance(value, Integral):
        return min(num_classes, max(2, round(value * num_classes)))
    if value > num_classes:
        raise ValueError(
            f'{name}={value} classes were asked for, but the logits have {num_classes}'
        )
    return int(value)

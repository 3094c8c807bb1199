"""The ranking loss against stored top-k scores of a teacher."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mmkendall.functional.operator import in_transform, needs_operator
from mmkendall.functional.rank_loss import kendall_rank_loss

# The check for classes that are twice in a row looks at some rows at a time: so many that its
# memory stays in a core's cache, but not so few that there are too many steps.
SEEN_ELEMENTS, SEEN_ROWS = 1 << 18, 32


def kendall_rank_loss_topk(
    preds_S: Tensor,
    ids: Tensor,
    scores: Tensor,
    steepness: float = 10.0,
    surrogate: str = 'product',
    reduction: str = 'mean',
    *,
    mask: Tensor | None = None,
    standardize: bool = False,
    backend: str = 'auto',
    compute_value: bool = True,
) -> Tensor:
    """:func:`kendall_rank_loss` over the classes that were stored of a teacher, and no others.

    For a teacher of which only the highest scores of each sample or token were kept, as servers of
    language models store them. The loss of a row is that of its stored classes alone: neither side
    is told anything of the rest. Log-probabilities serve as they are, for they differ from logits
    by a constant of the row, which an order does not see.

    Args:
        preds_S: student logits, (..., C). float16, bfloat16, float32 or float64.
        ids: int64 or int32, (..., K): the classes that were stored, each once in a row. Any K
            of one at least, in any order.
        scores: the teacher's scores of those classes, (..., K). A place with minus infinity is
            padding: it does not count, whatever its id is.
        steepness, surrogate, reduction, standardize, backend, compute_value: as in
            :func:`kendall_rank_loss`.
        mask: bool, (...): which rows count.

    Returns:
        A scalar, or (...) under ``'none'``. A row with fewer than two stored classes has a loss of
        0 and is left out of the mean.

    Raises:
        TypeError: ids that are no integers, or what :func:`kendall_rank_loss` refuses.
        ValueError: shapes that do not fit, an id that is no class, or a class that is stored twice
            in a row. The last two are not looked for inside of a transform of ``torch.func`` or
            ``torch.compile``, where nothing may depend on values.

    Cost:
        O(N K) memory beside the gradient of ``preds_S`` and a fixed number of rows of it, and the
        time of :func:`kendall_rank_loss` on K classes.

    Example:
        >>> import torch
        >>> from mmkendall import kendall_rank_loss_topk
        >>> student = torch.tensor([[4.0, 9.0, 2.0, 0.0, 1.0]])
        >>> ids = torch.tensor([[0, 2, 4, 0]])
        >>> scores = torch.tensor([[-0.1, -2.5, -3.0, -torch.inf]])  # three stored, one padding
        >>> round(kendall_rank_loss_topk(student, ids, scores).item(), 4)
        0.0
    """
    _check(preds_S, ids, scores)
    num_classes = preds_S.shape[-1]
    counts = scores != -math.inf
    ids = ids.long()
    if not (in_transform() or needs_operator(preds_S)):
        _check_ids(ids, counts, num_classes)
        if bool(counts.all()):  # Nothing is padding, so nothing needs to be left out.
            counts = None
    if counts is not None:
        ids = ids.clamp(0, num_classes - 1)
    # Scores in half precision would be tied by rounding those of a wider type.
    dtype = torch.promote_types(torch.promote_types(preds_S.dtype, scores.dtype), torch.float32)
    return kendall_rank_loss(
        preds_S.gather(-1, ids).to(dtype),
        scores.to(dtype),
        *(steepness, surrogate, reduction),
        dim=-1,
        mask=mask,
        class_mask=counts,
        standardize=standardize,
        backend=backend,
        compute_value=compute_value,
    )


def _check(preds_S: Tensor, ids: Tensor, scores: Tensor) -> None:
    for name, tensor in (('preds_S', preds_S), ('ids', ids), ('scores', scores)):
        if not isinstance(tensor, Tensor):
            raise TypeError(f'{name} must be a torch.Tensor, got {type(tensor).__name__}')
    for name, preds in (('preds_S', preds_S), ('scores', scores)):
        if not preds.is_floating_point():
            raise TypeError(f'{name} must be floating-point, got dtype {preds.dtype}')
    if ids.dtype not in (torch.int64, torch.int32):
        raise TypeError(f'ids must be int64 or int32, got dtype {ids.dtype}')
    if ids.shape != scores.shape or ids.dim() == 0 or ids.shape[:-1] != preds_S.shape[:-1]:
        raise ValueError(
            'ids and scores must be (..., K) and preds_S (..., C) with the same leading '
            f'dimensions, got {tuple(ids.shape)}, {tuple(scores.shape)} and {tuple(preds_S.shape)}'
        )


def _check_ids(ids: Tensor, counts: Tensor, num_classes: int) -> None:
    wrong = counts & ((ids < 0) | (ids >= num_classes))
    if bool(wrong.any()):
        raise ValueError(
            f'ids must be classes of preds_S, 0 to {num_classes - 1}, got '
            f'{ids[wrong][0].item()}; a place that is padding has a score of minus infinity'
        )
    # Each class is told a place where it stands in the row: of two places, one is not told again.
    # Far faster than sorting. All padding stands in one more class, and does not count.
    counts = counts.reshape(-1, ids.shape[-1])
    rows = ids.reshape(counts.shape).masked_fill(~counts, num_classes)
    places = torch.arange(ids.shape[-1], dtype=torch.int32, device=ids.device)
    size = max(SEEN_ROWS, SEEN_ELEMENTS // (num_classes + 1))
    for part, of_part in zip(rows.split(size), counts.split(size), strict=True):
        seen = places.new_empty(len(part), num_classes + 1)
        told = seen.scatter_(1, part, places.expand_as(part)).gather(1, part)
        twice = (told != places) & of_part
        if bool(twice.any()):
            raise ValueError(
                f'ids has class {part[twice][0].item()} twice in one row; each stored class must '
                'be there once'
            )

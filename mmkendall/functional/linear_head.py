"""Losses on the logits of a linear head, a few rows at a time, for large numbers of classes."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral

import torch
import torch.nn.functional as F
from torch import Tensor

from mmkendall.functional.checks import check_reduction
from mmkendall.functional.classes import check_bool_mask, check_class_mask
from mmkendall.functional.operator import NoSecondDerivative, in_transform
from mmkendall.functional.rank_loss import kendall_rank_loss
from mmkendall.functional.stored_topk import kendall_rank_loss_topk


def linear_head_losses(
    row_loss: Callable[..., Tensor],
    hidden: Tensor,
    weight: Tensor,
    *rows: Tensor,
    bias: Tensor | None = None,
    chunk_size: int = 128,
) -> Tensor:
    """The losses of rows whose logits come from a linear head and are never all there at once.

    With a vocabulary of 32,000 classes, the logits of 4,096 tokens take 0.5 GB in float32, and a
    loss needs several tensors of that size. Here the logits of ``chunk_size`` rows are computed,
    go through the loss and are dropped. The backward pass computes them again, chunk by chunk, and
    with them the gradients of ``hidden``, ``weight`` and ``bias``, which are those of
    ``row_loss(F.linear(hidden, weight, bias), *rows)``.

    Any loss of which each row stands for itself will do: :func:`kd_loss`, :func:`pld_loss`,
    :func:`listmle_loss`, :func:`wttm_loss`, ... with ``reduction='none'``, but not one that
    compares the rows of a batch, such as :func:`dist_loss`. For the ranking loss there is
    :func:`linear_kendall_rank_loss`.

    Args:
        row_loss: takes the logits of some rows, (n, C), and those rows of each tensor in ``rows``;
            returns their losses, (n,). It is called twice for each chunk, without autocast.
        hidden: what goes into the student's head, (..., D), floating point.
        weight: of the student's head, (C, D), of any floating-point type. The logits are computed
            in it. Autocast is off meanwhile: its rounding would change the order of close classes.
        *rows: what else the loss needs of each row, (..., ...) with the leading dimensions of
            ``hidden``: the teacher's hidden states, labels, stored scores. They get no gradient.
        bias: of the student's head, (C,), or None.
        chunk_size: how many rows have their logits in memory at a time.

    Returns:
        The losses, (...), for any reduction.

    Raises:
        TypeError: ``chunk_size`` that is no integer.
        ValueError: shapes that do not fit; a loss that is not one number a row; a tensor beside
            ``hidden``, ``weight`` and ``bias`` that requires a gradient, which it would not get.

    Cost:
        The logits twice and the loss twice, forward and backward together. Memory for what the
        loss needs of (chunk_size, C), and for twice the gradient of ``weight``. Inside of a
        transform of ``torch.func`` all logits are there at once.

    Example:
        >>> import torch
        >>> import torch.nn.functional as F
        >>> from mmkendall.functional import linear_head_losses, listmle_loss
        >>> hidden_S, hidden_T = torch.ones(2, 7, 3), torch.ones(2, 7, 4)
        >>> head_S, head_T = torch.eye(5, 3), torch.eye(5, 4)
        >>> def row_loss(preds_S, hidden_T):
        ...     return listmle_loss(preds_S, F.linear(hidden_T, head_T), reduction='none')
        >>> linear_head_losses(row_loss, hidden_S, head_S, hidden_T).shape
        torch.Size([2, 7])
    """
    _check_head('hidden', hidden, 'weight', weight, 'bias', bias)
    if not isinstance(chunk_size, Integral) or isinstance(chunk_size, bool):
        raise TypeError(f'chunk_size must be an int, got {type(chunk_size).__name__}')
    if chunk_size < 1:
        raise ValueError(f'chunk_size must be 1 at least, got {chunk_size}')
    leading = hidden.shape[:-1]
    for place, tensor in enumerate(rows):
        if tensor.shape[: len(leading)] != leading:
            raise ValueError(
                f'each tensor in rows must begin with the dimensions of the rows of hidden, '
                f'{tuple(leading)}, got {tuple(tensor.shape)} at place {place}'
            )
    hidden = hidden.reshape(-1, hidden.shape[-1]).to(weight.dtype)
    rows = [tensor.reshape(len(hidden), *tensor.shape[len(leading) :]) for tensor in rows]
    with torch.autocast(hidden.device.type, enabled=False):
        if in_transform() or len(hidden) == 0:
            losses = row_loss(F.linear(hidden, weight, bias), *rows)
        else:
            options = row_loss, chunk_size, torch.is_grad_enabled()
            losses = _InChunks.apply(*options, hidden, weight, bias, *rows)
    return losses.reshape(leading)


def linear_kendall_rank_loss(
    hidden_S: Tensor,
    weight_S: Tensor,
    hidden_T: Tensor | None = None,
    weight_T: Tensor | None = None,
    steepness: float = 10.0,
    surrogate: str = 'product',
    reduction: str = 'mean',
    *,
    bias_S: Tensor | None = None,
    bias_T: Tensor | None = None,
    ids: Tensor | None = None,
    scores: Tensor | None = None,
    mask: Tensor | None = None,
    class_mask: Tensor | None = None,
    topk: int | float | None = None,
    mink: int | float | None = None,
    standardize: bool = False,
    backend: str = 'auto',
    chunk_size: int = 128,
) -> Tensor:
    """:func:`kendall_rank_loss` of two linear heads, without their logits in memory.

    Value and gradients are those of ``kendall_rank_loss(F.linear(hidden_S, weight_S, bias_S),
    F.linear(hidden_T, weight_T, bias_T), ..., dim=-1)``, but only ``chunk_size`` rows have their
    logits in memory at a time. In place of the teacher's head there may be its stored top-k
    scores, as :func:`kendall_rank_loss_topk` takes them.

    Args:
        hidden_S: what goes into the student's head, (..., D), floating point.
        weight_S: of the student's head, (C, D). The student's logits are computed in its type,
            under autocast too.
        hidden_T: what goes into the teacher's head, (..., E), or None with ``ids`` and
            ``scores``.
        weight_T: of the teacher's head, (C, E). The teacher's logits are computed in its type.
        steepness, surrogate, topk, mink, standardize, backend: as in :func:`kendall_rank_loss`.
            ``topk`` and ``mink`` are for a teacher that is not stored.
        reduction: ``'none'``, ``'mean'`` over the rows that count, or ``'sum'``.
        bias_S: of the student's head, (C,), or None.
        bias_T: of the teacher's head, (C,), or None.
        ids: int64 or int32, (..., K): the classes that were stored of the teacher.
        scores: their scores, (..., K); minus infinity is padding.
        mask: bool, (...): which rows count. Nothing is computed of the others, so they take no
            time, and may hold anything.
        class_mask: bool, (C,): which classes count. Not with ``ids``.
        chunk_size: how many rows have their logits in memory at a time.

    Returns:
        A scalar, or (...) under ``'none'``. float64 for float64 weights, else float32. ``'mean'``
        leaves out the rows that :func:`kendall_rank_loss` or :func:`kendall_rank_loss_topk`
        leaves out.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: shapes that do not fit, neither teacher or both, or a tensor of the teacher
            that requires a gradient, which it would not get.
        RuntimeError: ``backend`` names one that can't run on this input.

    Cost:
        That of :func:`linear_head_losses`.

    Example:
        >>> import torch
        >>> from mmkendall.functional import linear_kendall_rank_loss
        >>> hidden, head = torch.ones(2, 7, 3), torch.eye(5, 3)
        >>> round(linear_kendall_rank_loss(hidden, head, hidden, head, 10.0).item(), 4)
        0.4
        >>> stored = torch.tensor([[[3, 0]] * 7] * 2), torch.tensor([[[-0.1, -2.5]] * 7] * 2)
        >>> ids, scores = stored
        >>> round(linear_kendall_rank_loss(hidden, head, ids=ids, scores=scores).item(), 4)
        2.0
    """
    check_reduction(reduction)
    is_stored = _check_teacher(hidden_T, weight_T, bias_T, ids, scores)
    options = dict(steepness=steepness, surrogate=surrogate, reduction='none', backend=backend)
    options |= dict(standardize=standardize)
    if is_stored:
        for name, value in (('class_mask', class_mask), ('topk', topk), ('mink', mink)):
            if value is not None:
                raise ValueError(
                    f'{name} is for a teacher whose logits are all there, and ids and scores say '
                    f'already which classes count: leave {name} out'
                )
        rows = ids, scores
        row_loss = _stored_loss(options)
    else:
        _check_head('hidden_T', hidden_T, 'weight_T', weight_T, 'bias_T', bias_T)
        if len(weight_T) != len(weight_S):
            raise ValueError(
                'weight_S and weight_T must be (C, D) and (C, E) of the same classes, got '
                f'{tuple(weight_S.shape)} and {tuple(weight_T.shape)}'
            )
        rows = (hidden_T,)
        options |= dict(topk=topk, mink=mink, class_mask=class_mask)
        if class_mask is not None:
            check_class_mask(class_mask, weight_S.T, 1)
        row_loss = _head_loss(weight_T, bias_T, options)
    _check_head('hidden_S', hidden_S, 'weight_S', weight_S, 'bias_S', bias_S)
    if rows[0].shape[:-1] != hidden_S.shape[:-1]:
        raise ValueError(
            f'{"ids" if is_stored else "hidden_T"} must begin with the dimensions of the rows of '
            f'hidden_S, {tuple(hidden_S.shape[:-1])}, got {tuple(rows[0].shape)}'
        )
    if mask is not None:
        check_bool_mask('mask', mask, hidden_S)
        if mask.shape != hidden_S.shape[:-1]:
            raise ValueError(
                f'mask must hold one entry a row of hidden_S, {tuple(hidden_S.shape[:-1])}, got '
                f'{tuple(mask.shape)}'
            )
        hidden_S, *rows = (tensor[mask] for tensor in (hidden_S, *rows))
    losses = linear_head_losses(
        row_loss, hidden_S, weight_S, *rows, bias=bias_S, chunk_size=chunk_size
    )
    if reduction == 'none':
        if mask is None:
            return losses
        return losses.new_zeros(mask.shape).masked_scatter(mask, losses)
    if reduction == 'sum':
        return losses.sum()
    if not is_stored:  # Either all rows have a pair or none has, and then the sum is 0.
        return losses.sum() / max(losses.numel(), 1)
    has_pair = (rows[1] != -math.inf).sum(dim=-1) > 1
    return losses.sum() / has_pair.sum().clamp(min=1)


class _InChunks(torch.autograd.Function):
    """``row_loss(F.linear(hidden, weight, bias), *rows)``, chunk by chunk, differentiable once."""

    @staticmethod
    def forward(ctx, row_loss, chunk_size, checks_grad, hidden, weight, bias, *rows):
        ctx.row_loss, ctx.chunk_size, ctx.has_bias = row_loss, chunk_size, bias is not None
        ctx.save_for_backward(hidden, weight, *([] if bias is None else [bias]), *rows)
        losses = []
        for part in _parts(len(hidden), chunk_size):
            preds = F.linear(hidden[part], weight, bias)
            # With gradients on, what should not need any is seen to need one. If nothing does, no
            # graph is kept.
            with torch.set_grad_enabled(checks_grad):
                found = row_loss(preds, *(tensor[part] for tensor in rows))
            if found.shape != preds.shape[:1]:
                raise ValueError(
                    f'row_loss must return one loss for each of its {len(preds)} rows, '
                    f"({len(preds)},), got {tuple(found.shape)}: pass it reduction='none'"
                )
            if found.requires_grad:
                raise ValueError(
                    'row_loss reads a tensor that requires a gradient, which it would not get '
                    'here: detach what belongs to the teacher, and train nothing but hidden, '
                    'weight and bias'
                )
            losses.append(found)
        return torch.cat(losses)

    @staticmethod
    def backward(ctx, grad_losses):
        hidden, weight, *rows = ctx.saved_tensors
        bias = rows.pop(0) if ctx.has_bias else None
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[3:6]
        # Sums over chunks in half precision would lose what a product over all rows keeps.
        exact = torch.promote_types(weight.dtype, torch.float32)
        grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=exact) if needs_weight else None
        grad_bias = torch.zeros_like(bias, dtype=exact) if needs_bias else None
        with torch.no_grad(), torch.autocast(hidden.device.type, enabled=False):
            for part in _parts(len(hidden), ctx.chunk_size):
                preds = F.linear(hidden[part], weight, bias).requires_grad_()
                with torch.enable_grad():
                    losses = ctx.row_loss(preds, *(tensor[part] for tensor in rows))
                (grad,) = torch.autograd.grad(losses, preds, grad_losses[part])
                if needs_hidden:
                    grad_hidden[part] = grad @ weight
                if needs_weight:
                    grad_weight += grad.T @ hidden[part]
                if needs_bias:
                    grad_bias += grad.sum(dim=0, dtype=exact)
        grads = grad_hidden, grad_weight, grad_bias
        grads = [grad if grad is None else grad.to(weight.dtype) for grad in grads]
        if torch.is_grad_enabled():  # create_graph=True
            grads = NoSecondDerivative.apply(
                'losses of a linear head have no second derivative in chunks: call row_loss on '
                'whole logits, F.linear(hidden, weight, bias), for a double backward',
                *(3, *grads, hidden, weight, bias),
            )
        return None, None, None, *grads, *[None] * len(rows)


def _parts(num_rows: int, chunk_size: int) -> list[slice]:
    return [slice(first, first + chunk_size) for first in range(0, num_rows, chunk_size)]


def _head_loss(
    weight_T: Tensor, bias_T: Tensor | None, options: dict[str, object]
) -> Callable[[Tensor, Tensor], Tensor]:
    """The ranking loss of rows against the hidden states of a teacher."""

    def row_loss(preds_S: Tensor, hidden_T: Tensor) -> Tensor:
        preds_T = F.linear(hidden_T.to(weight_T.dtype), weight_T, bias_T)
        # Logits of two types are compared in the wider one.
        dtype = torch.promote_types(preds_S.dtype, preds_T.dtype)
        return kendall_rank_loss(preds_S.to(dtype), preds_T.to(dtype), **options)

    return row_loss


def _stored_loss(options: dict[str, object]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The ranking loss of rows against the stored scores of a teacher."""

    def row_loss(preds_S: Tensor, ids: Tensor, scores: Tensor) -> Tensor:
        return kendall_rank_loss_topk(preds_S, ids, scores, **options)

    return row_loss


def _check_head(
    hidden_name: str,
    hidden: Tensor,
    weight_name: str,
    weight: Tensor,
    bias_name: str,
    bias: Tensor | None,
) -> None:
    """Raises TypeError or ValueError unless hidden states, weight and bias make logits."""
    for name, tensor in ((hidden_name, hidden), (weight_name, weight), (bias_name, bias)):
        if tensor is None and name == bias_name:
            continue
        if not isinstance(tensor, Tensor):
            raise TypeError(f'{name} must be a torch.Tensor, got {type(tensor).__name__}')
        if not tensor.is_floating_point():
            raise TypeError(f'{name} must be floating-point, got dtype {tensor.dtype}')
    fits = hidden.dim() > 0 and weight.dim() == 2 and hidden.shape[-1] == weight.shape[1]
    if not fits or (bias is not None and bias.shape != weight.shape[:1]):
        came = ', '.join(
            f'{name} {tuple(tensor.shape)}'
            for name, tensor in ((hidden_name, hidden), (weight_name, weight), (bias_name, bias))
            if tensor is not None
        )
        raise ValueError(
            f'{hidden_name} must be (..., D), {weight_name} (C, D) and {bias_name} (C,) or None, '
            f'got {came}'
        )


def _check_teacher(
    hidden_T: Tensor | None,
    weight_T: Tensor | None,
    bias_T: Tensor | None,
    ids: Tensor | None,
    scores: Tensor | None,
) -> bool:
    """Whether the teacher is stored; ValueError where it is neither or both, or is trained."""
    head = dict(hidden_T=hidden_T, weight_T=weight_T, bias_T=bias_T)
    stored = dict(ids=ids, scores=scores)
    came = [name for name, tensor in (head | stored).items() if tensor is not None]
    is_head = set(came) - {'bias_T'} == {'hidden_T', 'weight_T'}
    if not is_head and set(came) != {'ids', 'scores'}:
        raise ValueError(
            'the teacher must be either hidden_T and weight_T, with or without bias_T, or ids and '
            f'scores, got {", ".join(came) or "none of them"}'
        )
    for name, tensor in (head | stored).items():
        if isinstance(tensor, Tensor) and tensor.requires_grad and torch.is_grad_enabled():
            raise ValueError(
                f'{name} requires a gradient, which the teacher does not get here: pass '
                f'{name}.detach()'
            )
    return not is_head

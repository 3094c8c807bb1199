"""One operator for all backends but the definition, and its place in autograd."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mmkendall.functional.backends import run_backend
from mmkendall.functional.backends.reference import ORDER_ONLY, zero_or_nan
from mmkendall.functional.classes import made_finite, rows_by_size


class _Wanted(NamedTuple):
    """What is to be computed of the logits.

    Args:
        steepness: k.
        surrogate: one of ``SURROGATES``.
        backend: a key of ``BACKENDS`` but ``'reference'``, or ``'auto'``.
        student_grad: whether the gradient with respect to the student's logits is wanted.
        teacher_grad: the same for the teacher's.
        compute_value: whether the losses are wanted; without them they are 0.
        average: whether the mean of the losses is wanted in their place.
    """

    steepness: float
    surrogate: str
    backend: str
    student_grad: bool
    teacher_grad: bool
    compute_value: bool
    average: bool


# torch reads the operator's schema from this signature, so it can't take a _Wanted.
def _compute(
    preds_S: Tensor,
    preds_T: Tensor,
    steepness: float,
    surrogate: str,
    backend: str,
    need_grad_S: bool,
    need_grad_T: bool,
    compute_value: bool,
    average: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses of rows, or their mean, and the gradients, by the backend that is asked for.

    Args:
        preds_S: (N, C) student logits, contiguous, float32 or float64, N >= 1, C >= 2.
        preds_T: (N, C) teacher logits, likewise.
        steepness, surrogate, backend, need_grad_S, need_grad_T, compute_value, average: the
            fields of ``_Wanted``, in their order.

    Returns:
        (N,) losses, or a scalar, and the two gradients of each row's loss, or of the mean, (N, C)
        or empty. A class that is minus infinity in both logits does not count, and one that is so
        in the teacher alone is last. NaN for a row that holds a NaN or another infinity.
    """
    wanted = (steepness, surrogate, backend, need_grad_S, need_grad_T, compute_value, average)
    loss, grad_S, grad_T = _compute_wanted(preds_S, preds_T, wanted)
    return loss, grad_S, preds_T.new_empty(0) if grad_T is None else grad_T


def _compute_wanted(
    preds_S: Tensor, preds_T: Tensor, wanted: tuple
) -> tuple[Tensor, Tensor, Tensor | None]:
    """``_compute``, but None for a teacher's gradient that is not wanted."""
    *results, counted = _all_classes(preds_S, preds_T, *wanted)
    # Only rows that the backend found wanting are looked at again, so the others pay nothing.
    if not counted and _is_nan(results[0]) and bool((preds_T == -math.inf).any()):
        return _counted_classes(preds_S, preds_T, _Wanted(*wanted), results)
    return results


def _all_classes(
    preds_S: Tensor,
    preds_T: Tensor,
    steepness: float,
    surrogate: str,
    backend: str,
    student_grad: bool,
    teacher_grad: bool,
    compute_value: bool,
    average: bool,
) -> tuple[Tensor, Tensor, Tensor | None, bool]:
    """``_compute_wanted`` as the backend sees it, and whether that counts classes itself."""
    loss, grad_S, counted = run_backend(
        *(backend, preds_S, preds_T, steepness, surrogate, student_grad, compute_value, average)
    )
    if not teacher_grad:
        return loss, grad_S, None, counted
    if surrogate in ORDER_ONLY:
        return loss, grad_S, torch.zeros_like(preds_T), counted
    # The other surrogates are symmetric in student and teacher, but for minus infinity.
    options = (steepness, surrogate, True, False, average)
    if not counted:
        return loss, grad_S, run_backend(backend, preds_T, preds_S, *options)[1], counted
    _, finite_T, counts = made_finite(preds_S, preds_T, steepness)
    finite_T = finite_T.masked_fill(~counts, -math.inf)
    grad_T = run_backend(backend, finite_T, preds_S, *options)[1]
    is_wrong = ((preds_S == -math.inf) & counts).any(dim=1, keepdim=True)
    grad_T.masked_fill_(is_wrong, math.nan).masked_fill_(preds_T == -math.inf, 0)
    return loss, grad_S, grad_T, counted


def _is_nan(loss: Tensor) -> bool:
    """Whether a loss is NaN. Never, where no value can be had: see ``kendall_rank_loss``."""
    if not loss.is_cpu and (
        loss.is_meta or (loss.is_cuda and torch.cuda.is_current_stream_capturing())
    ):
        return False
    return math.isnan(loss.sum().item() if loss.dim() else loss.item())


def _counted_classes(
    preds_S: Tensor, preds_T: Tensor, wanted: _Wanted, results: tuple
) -> tuple[Tensor, Tensor, Tensor | None]:
    """``_compute_wanted`` where minus infinities of the teacher made ``results`` NaN.

    Rows with equally many classes that count become one smaller matrix.
    """
    losses, *grads = results
    if grads[1] is None:
        grads[1] = preds_T.new_empty(0)
    if wanted.average:
        losses = torch.full_like(preds_S[:, 0], math.nan)
        grads = [torch.empty_like(grad) for grad in grads]
    again = losses.isnan().nonzero().squeeze(1)
    rows_S, rows_T, counts = made_finite(preds_S[again], preds_T[again], wanted.steepness)
    num_with_pairs = len(losses) - len(again)
    for grad in grads:
        if grad.numel():
            grad[again] = 0
    for size, part, columns in rows_by_size(counts):
        rows, places = again[part], (part[:, None], columns)
        if size < 2:
            losses[rows] = zero_or_nan(rows_S[part], rows_T[part])
            continue
        num_with_pairs += len(rows)
        of_rows = wanted._replace(average=False)
        losses[rows], *parts, _ = _all_classes(rows_S[places], rows_T[places], *of_rows)
        for grad, values in zip(grads, parts, strict=True):
            if grad.numel():
                grad[rows[:, None], columns] = values
    grad_S, grad_T = grads
    if wanted.teacher_grad:
        grad_T.masked_fill_(preds_T == -math.inf, 0)
    if wanted.average:
        share = max(num_with_pairs, 1)
        return losses.sum() / share, grad_S / share, grad_T / share
    return losses, grad_S, grad_T


def _compute_shapes(preds_S: Tensor, preds_T: Tensor, *options) -> tuple[Tensor, Tensor, Tensor]:
    """Empty results of the right shapes, from which a compiler learns them."""
    wanted = _Wanted(*options)
    return (
        preds_S.new_empty(() if wanted.average else preds_S.shape[0]),
        torch.empty_like(preds_S) if wanted.student_grad else preds_S.new_empty(0),
        torch.empty_like(preds_T) if wanted.teacher_grad else preds_T.new_empty(0),
    )


if hasattr(torch.library, 'custom_op'):
    from torch.utils._python_dispatch import _get_current_dispatch_mode

    compute = torch.library.custom_op('mmkendall::rank_loss', _compute, mutates_args=())
    compute.register_fake(_compute_shapes)

    def needs_operator(preds: Tensor) -> bool:
        """Whether a compiler, a tracer, a mode or a tensor subclass must see the operator.

        Else the call skips the dispatcher, which takes longer than a small loss.
        """
        return (
            torch.compiler.is_compiling()
            or torch.jit.is_tracing()
            or type(preds) is not Tensor
            or _get_current_dispatch_mode() is not None
        )

else:  # torch < 2.4 runs the same function, which torch.compile can't look through.
    compute = _compute

    def needs_operator(preds: Tensor) -> bool:
        return False


if hasattr(torch, 'func') and hasattr(getattr(torch, 'compiler', None), 'is_compiling'):

    def in_transform() -> bool:
        """Whether a transform of torch.func, such as vmap, looks at the call."""
        # A compiler, which has an answer to this itself, can't look through the second question.
        return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()

else:  # An old torch, whose transforms refuse the operator by themselves.

    def in_transform() -> bool:
        return False


class RankLoss(torch.autograd.Function):
    """Losses (N,) of rows (N, C), or their mean, differentiable once."""

    @staticmethod
    def forward(ctx, preds_S, preds_T, steepness, surrogate, backend, compute_value, average):
        wanted = (steepness, surrogate, backend, *ctx.needs_input_grad[:2], compute_value, average)
        if needs_operator(preds_S):
            loss, grad_S, grad_T = compute(preds_S, preds_T, *wanted)
        else:
            loss, grad_S, grad_T = _compute_wanted(preds_S, preds_T, wanted)
        ctx.save_for_backward(preds_S, preds_T, grad_S, grad_T)
        return loss

    @staticmethod
    def backward(ctx, grad_loss):
        preds_S, preds_T, grad_S, grad_T = ctx.saved_tensors
        scale = grad_loss.unsqueeze(1) if grad_loss.dim() else grad_loss
        grad_S = grad_S * scale if ctx.needs_input_grad[0] else None
        grad_T = grad_T * scale if ctx.needs_input_grad[1] else None
        if torch.is_grad_enabled():  # create_graph=True
            grad_S, grad_T = NoSecondDerivative.apply(
                'kendall_rank_loss has no second derivative on this backend: '
                "pass backend='reference' for a double backward",
                *(2, grad_S, grad_T, preds_S, preds_T),
            )
        return grad_S, grad_T, None, None, None, None, None


class NoSecondDerivative(torch.autograd.Function):
    """Passes gradients on as functions of what they depend on, whose derivative is an error.

    Without it a penalty on the gradient would silently lose the part of the ranking loss.
    """

    @staticmethod
    def forward(ctx, message, num_grads, *grads_and_inputs):
        ctx.message = message
        return grads_and_inputs[:num_grads]

    @staticmethod
    def backward(ctx, *grads):
        raise RuntimeError(ctx.message)

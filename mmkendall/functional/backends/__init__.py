"""Ways to compute the ranking loss, one file each, under one contract.

A backend is a module with

``unavailable(device, dtype, num_classes, surrogate) -> str | None``
    Why it can't take such input, or ``None`` when it can.
``rank_loss(preds_S, preds_T, steepness, surrogate, need_grad, compute_value, average)``
    Returns ``(loss, grad)``. ``preds_S`` and ``preds_T`` are contiguous (N, C) tensors of one
    dtype, float32 or float64, on one device, with N >= 1 and C >= 2. ``loss`` is (N,): ``1`` less
    ``tau_d`` of each row, with ``'logistic'`` its mean of softplus, or 0 without ``compute_value``
    (True if left out); with ``average`` (False) it is their mean, a scalar. ``grad`` is (N, C):
    the gradient of each row's loss, or of the mean, with respect to ``preds_S``, or an empty
    tensor when ``need_grad`` is false. Both are NaN for a row that holds a NaN or an infinity.
``part(num_classes, steepness, surrogate) -> str``
    Of backends that are compiled at first use: which of its algorithms such input takes. Each is
    checked by itself before ``'auto'`` relies on it; see ``self_check``.
``COUNTS_CLASSES``
    True where the backend itself leaves out classes that are minus infinity in both logits, and
    rows of which fewer than two count, and takes one that is so in the teacher alone for the last.
    Else such rows are NaN, and ``operator`` computes them again.

``reference`` differs: it is the differentiable definition, so autograd finds its gradient.
"""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

from mmkendall.functional.backends import (
    eager,
    numba_cpu,
    reference,
    self_check,
    triton_cuda,
)

BACKENDS: dict[str, ModuleType] = {
    'triton': triton_cuda,
    'numba': numba_cpu,
    'eager': eager,
    'reference': reference,
}
# What `auto` tries, fastest first. `eager` runs everywhere, so it always ends well.
PREFERENCE = ('triton', 'numba', 'eager')


def choose_backend(
    name: str,
    device: torch.device,
    dtype: torch.dtype,
    num_classes: int,
    surrogate: str,
    steepness: float = 1.0,
) -> str:
    """The name of the backend to run.

    Args:
        name: a key of ``BACKENDS`` or ``'auto'``.
        device: where the logits are.
        dtype: float32 or float64, the dtype of the computation.
        num_classes: C.
        surrogate: one of ``SURROGATES``.
        steepness: k.

    Raises:
        RuntimeError: the named backend can't run here. ``'auto'`` falls back instead.
    """
    if name == 'auto':
        for candidate in PREFERENCE:
            if candidate == 'triton' and device.type == 'cpu':
                continue  # Triton's interpreter is for tests.
            if BACKENDS[candidate].unavailable(device, dtype, num_classes, surrogate) is not None:
                continue
            failures = self_check.failures()
            if (
                failures
                and _kind(candidate, device, num_classes, surrogate, steepness) in failures
            ):
                continue
            return candidate
    reason = BACKENDS[name].unavailable(device, dtype, num_classes, surrogate)
    if reason is not None:
        raise RuntimeError(f'backend {name!r} cannot run here: {reason}')
    return name


def run_backend(
    name: str,
    preds_S: Tensor,
    preds_T: Tensor,
    steepness: float,
    surrogate: str,
    need_grad: bool,
    compute_value: bool = True,
    average: bool = False,
) -> tuple[Tensor, Tensor, bool]:
    """Computes by the named backend, or under ``'auto'`` by the fastest that can be relied on.

    Returns:
        The loss and the gradient, and whether the backend counts classes itself.
    """
    num_classes, device = preds_S.shape[1], preds_S.device
    options = (steepness, surrogate, need_grad, compute_value, average)
    chosen = choose_backend(name, device, preds_S.dtype, num_classes, surrogate, steepness)
    on_gpu = name == 'auto' and chosen == 'triton'
    if on_gpu and eager.beats_all_pairs(preds_S, preds_T, steepness, surrogate):
        chosen = 'eager'
    backend = BACKENDS[chosen]
    counts = getattr(backend, 'COUNTS_CLASSES', False)
    if name != 'auto' or backend is eager:
        return (*backend.rank_loss(preds_S, preds_T, *options), counts)
    try:
        # A batch may take any of the CPU's loops: each is tried where it is first called.
        if device.type == 'cpu' or self_check.passes(
            _kind(chosen, device, num_classes, surrogate, steepness), backend, steepness, device
        ):
            return (*backend.rank_loss(preds_S, preds_T, *options), counts)
    except (MemoryError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:  # Numba and Triton raise many kinds of their own.
        kind = _kind(chosen, device, num_classes, surrogate, steepness)
        self_check.report_failure(kind, self_check.in_one_line(error))
    return (*eager.rank_loss(preds_S, preds_T, *options), False)


def _kind(
    name: str, device: torch.device, num_classes: int, surrogate: str, steepness: float
) -> self_check.Kind:
    part = getattr(BACKENDS[name], 'part', None)
    return (
        name,
        part(num_classes, steepness, surrogate) if part else '',
        str(device),
        surrogate,
    )

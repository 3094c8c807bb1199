"""Ways to compute the ranking loss, one file each, under one contract.

A backend is a module with

``unavailable(device, dtype, num_classes, surrogate) -> str | None``
    Why it can't take such input, or ``None`` when it can.
``rank_loss(preds_S, preds_T, steepness, surrogate, need_grad, compute_value, average)``
    Returns ``(loss, grad)``. ``preds_S`` and ``preds_T`` are contiguous (N, C) tensors of one
    dtype, float32 or float64, on one device, with N >= 1 and C >= 2. ``loss`` is (N,): ``1`` less
    ``tau_d`` of each row, or 0 without ``compute_value`` (True if left out); with ``average``
    (False) it is their mean, a scalar. ``grad`` is (N, C): the gradient of each row's loss, or of
    the mean, with respect to ``preds_S``, or an empty tensor when ``need_grad`` is false. Both are
    NaN for a row that holds a NaN or an infinity.

``reference`` differs: it is the differentiable definition, so autograd finds its gradient.
"""

from __future__ import annotations

from types import ModuleType

import torch

from mmkendall.functional.backends import eager, numba_cpu, reference, triton_cuda

BACKENDS: dict[str, ModuleType] = {
    'triton': triton_cuda,
    'numba': numba_cpu,
    'eager': eager,
    'reference': reference,
}
# What `auto` tries, fastest first. `eager` runs everywhere, so it always ends well.
PREFERENCE = ('triton', 'numba', 'eager')


def choose_backend(
    name: str, device: torch.device, dtype: torch.dtype, num_classes: int, surrogate: str
) -> str:
    """The name of the backend to run.

    Args:
        name: a key of ``BACKENDS`` or ``'auto'``.
        device: where the logits are.
        dtype: float32 or float64, the dtype of the computation.
        num_classes: C.
        surrogate: one of ``SURROGATES``.

    Raises:
        RuntimeError: the named backend can't run here. ``'auto'`` falls back instead.
    """
    if name == 'auto':
        for candidate in PREFERENCE:
            if candidate == 'triton' and device.type == 'cpu':
                continue  # Triton's interpreter is for tests.
            if BACKENDS[candidate].unavailable(device, dtype, num_classes, surrogate) is None:
                return candidate
    reason = BACKENDS[name].unavailable(device, dtype, num_classes, surrogate)
    if reason is not None:
        raise RuntimeError(f'backend {name!r} cannot run here: {reason}')
    return name

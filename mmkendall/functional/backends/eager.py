"""The ranking loss in torch operations, tile by tile: any device, no further dependency.

One pass gives the value and the gradient. Memory beside the gradient is a few tiles of
``TILE_ELEMENTS`` elements, whatever N and C are: never an (N, C, C) tensor.
"""

from __future__ import annotations

import torch
from torch import Tensor

# A few tiles of this size stay in a core's second-level cache; a GPU wants fewer, larger kernels.
TILE_ELEMENTS = {'cpu': 1 << 18, 'other': 1 << 22}
# Square blocks of classes: the mirror block below the diagonal is had for free.
MAX_BLOCK = 256


def unavailable(
    device: torch.device, dtype: torch.dtype, num_classes: int, surrogate: str
) -> str | None:
    """Torch operations run everywhere."""
    return None


def rank_loss(
    preds_S: Tensor, preds_T: Tensor, steepness: float, surrogate: str, need_grad: bool
) -> tuple[Tensor, Tensor]:
    """See the contract in ``backends/__init__.py``."""
    num_rows, num_classes = preds_S.shape
    budget = TILE_ELEMENTS['cpu' if preds_S.device.type == 'cpu' else 'other']
    block = min(num_classes, MAX_BLOCK)
    rows = max(1, min(num_rows, budget // (block * block)))

    # float64: a float32 sum of C(C-1)/2 terms would cost the value its last digits.
    total = preds_S.new_zeros(num_rows, dtype=torch.float64)
    grad = torch.zeros_like(preds_S) if need_grad else preds_S.new_empty(0)
    tiles = preds_S.new_empty(3, rows * block * block)
    for row in range(0, num_rows, rows):
        rows_ = slice(row, min(row + rows, num_rows))
        for i in range(0, num_classes, block):
            for j in range(i, num_classes, block):
                _add_block(
                    preds_S[rows_],
                    preds_T[rows_],
                    slice(i, min(i + block, num_classes)),
                    slice(j, min(j + block, num_classes)),
                    steepness,
                    surrogate,
                    total[rows_],
                    grad[rows_] if need_grad else None,
                    tiles,
                )
    pairs = num_classes * (num_classes - 1)
    if need_grad:
        grad.mul_(-1.0 / pairs)
    return (1 - total / pairs).to(preds_S.dtype), grad


def _add_block(
    preds_S: Tensor,
    preds_T: Tensor,
    i: slice,
    j: slice,
    steepness: float,
    surrogate: str,
    total: Tensor,
    grad: Tensor | None,
    tiles: Tensor,
) -> None:
    """Adds the pairs of classes ``i`` x ``j`` and their mirror to ``total`` and ``grad``.

    ``total`` gets the agreement of each ordered pair; ``grad`` gets the derivative of that sum
    with respect to the student's logits.
    """
    shape = (preds_S.shape[0], i.stop - i.start, j.stop - j.start)
    size = shape[0] * shape[1] * shape[2]
    delta_S, delta_T, slope = (tile[:size].view(shape) for tile in tiles)
    torch.sub(preds_S[:, i, None], preds_S[:, None, j], out=delta_S)
    torch.sub(preds_T[:, i, None], preds_T[:, None, j], out=delta_T)

    # Subtract first, scale after: k * s rounded to float32 would cost digits of the difference.
    if surrogate == 'diffkendall':
        ordering = delta_S.mul_(delta_T).mul_(steepness).tanh_()
        weight = delta_T
        agreement = ordering.sum(dim=(1, 2))
    else:
        ordering = delta_S.mul_(steepness).tanh_()
        weight = (
            delta_T.sign_() if surrogate == 'hard_teacher' else delta_T.mul_(steepness).tanh_()
        )
        flat = (shape[0], 1, -1)
        agreement = torch.bmm(weight.view(flat), ordering.view(flat).mT).view(-1)

    mirrored = 1 if i == j else 2
    total.add_(agreement, alpha=mirrored)
    if grad is None:
        return
    torch.ops.aten.tanh_backward.grad_input(weight, ordering, grad_input=slope)
    grad[:, i].add_(slope.sum(dim=2), alpha=2 * steepness)
    if i != j:
        grad[:, j].sub_(slope.sum(dim=1), alpha=2 * steepness)

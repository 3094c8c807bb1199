"""Logits that hypothesis draws, and the definition in float64 to hold a backend to."""

import math

import pytest
import torch
from hypothesis import strategies as st

from mmkendall import kendall_rank_loss
from mmkendall.functional.backends import numba_cpu, reference

needs_numba = pytest.mark.skipif(
    numba_cpu.unavailable(torch.device('cpu'), torch.float32, 2, 'product') is not None,
    reason='Numba is not installed',
)
STEEPNESS = (0.1, 1.0, 10.0, 100.0, 1000.0)
SIZES = (2, 3, 7, 8, 9, 31, 64, 65, 130, 257)
KINDS = ('plain', 'ties', 'huge', 'tiny', 'constant', 'zeros', 'half tied', 'cluster', 'far')
LAYOUTS = {
    'contiguous': lambda rows: rows,
    'transposed': lambda rows: rows.mT.contiguous().mT,
    'every other': lambda rows: torch.stack((rows, -rows), dim=2).flatten(1)[:, ::2],
    'inside': lambda rows: torch.nn.functional.pad(rows, (3, 2), value=7.0)[:, 3:-2],
    'expanded': lambda rows: rows[:1].expand_as(rows),
}


@st.composite
def logits(draw, sizes=SIZES, dtypes=(torch.float32, torch.float64)):
    """Rows (N, C) of a student and of a teacher: as they come, and such as break careless code."""
    num_rows = draw(st.integers(1, 5))
    num_classes = draw(st.sampled_from(sizes))
    dtype = draw(st.sampled_from(dtypes))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    pair = []
    for _ in range(2):
        rows = torch.randn(num_rows, num_classes, generator=generator, dtype=torch.float64)
        kind = draw(st.sampled_from(KINDS))
        if kind == 'plain':
            rows = rows * draw(st.sampled_from([0.3, 2.5, 6.0]))
        elif kind == 'ties':
            rows = (rows * 2).round() / 2
        elif kind == 'huge':
            rows = rows * min(1e30, torch.finfo(dtype).max / 10)
        elif kind == 'tiny':
            rows = rows * 1e-6
        elif kind == 'constant':
            rows[0] = rows[0, 0]
        elif kind == 'zeros':
            rows[:, ::2], rows[:, 1::2] = 0.0, -0.0
        elif kind == 'half tied':
            rows[:, num_classes // 2 :] = rows[:, :1]
        elif kind == 'cluster':  # And one class far away, so that the range says little.
            rows = rows / 30
            rows[:, -1] = 8.0
        else:
            rows = rows + 300
        pair.append(rows.to(dtype))
    # A student that has learnt it all: the gradient is what remains of large sums.
    return [pair[1], pair[1]] if draw(st.integers(0, 4)) == 0 else pair


def definition(preds_S, preds_T, steepness, surrogate):
    """Losses and gradient in float64."""
    preds_S = preds_S.double().clone().requires_grad_()
    losses = reference.rank_loss(preds_S, preds_T.double(), steepness, surrogate)
    (grad,) = torch.autograd.grad(losses.sum(), preds_S)
    return losses.detach(), grad


def assert_close(result, expected, steepness):
    """Within 1e-6 of the value and 1e-5 of the gradient's norm in float32.

    A value that is above 2, as that of 'logistic' may be, is as near as 5e-7 of itself.
    Where all pairs are saturated the gradient is a tail of tanh. It counts as zero below 2e-6 of
    what one pair can give. A gradient in half precision is as near as that can say it.
    """
    (losses, grad), (true_losses, true_grad) = result, expected
    single = losses.dtype == torch.float32
    off = (losses.double() - true_losses).abs() / (true_losses / 2).clamp(min=1)
    assert off.max() <= (1e-6 if single else 1e-12)
    num_classes = grad.shape[1]
    error = (grad.double() - true_grad).norm(dim=1)
    one_pair = 2 * steepness / (num_classes * (num_classes - 1))
    tail = one_pair * math.sqrt(num_classes)
    share, floor = (1e-5, 2e-6) if single else (1e-11, 1e-15)
    rounded = 0.0
    if grad.dtype in (torch.float16, torch.bfloat16):
        share += torch.finfo(grad.dtype).eps
        rounded = torch.finfo(grad.dtype).smallest_normal * 2e-3 * math.sqrt(num_classes)
    assert (error <= share * true_grad.norm(dim=1) + floor * tail + rounded).all()


def check_function(pair, layouts, steepness, surrogate, backend):
    """``kendall_rank_loss`` of rows that lie in memory as the two layouts say."""
    # Detached, for the two may be one tensor.
    preds_S, preds_T = (
        LAYOUTS[layout](rows).detach() for layout, rows in zip(layouts, pair, strict=True)
    )
    preds_S.requires_grad_()
    losses = kendall_rank_loss(preds_S, preds_T, steepness, surrogate, 'none', backend=backend)
    (grad,) = torch.autograd.grad(losses.sum(), preds_S)
    assert grad.dtype == preds_S.dtype
    expected = definition(preds_S.detach(), preds_T, steepness, surrogate)
    assert_close((losses.detach(), grad), expected, steepness)

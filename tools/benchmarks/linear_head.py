"""Time and memory of losses on the logits of a linear head, whole and in chunks.

A figure is for forward and backward from the hidden states on: the student's head, the teacher's,
the loss, and the gradients of hidden states and weight. Hidden states and weights themselves are
there before and not in the memory column.
"""

from __future__ import annotations

import torch
from common import measure, measure_all, parse_arguments, save, show
from torch.nn import functional as F

from mmkendall.functional import (
    kd_loss,
    kendall_rank_loss,
    linear_head_losses,
    linear_kendall_rank_loss,
)

BENCHMARK = 'linear_head'
# rows, classes, width of both heads, steepness. With 256 rows, two chunks, nothing is saved.
SHORT = [(1024, 32_000, 128, 1.0)]
FULL = [*SHORT, (256, 32_000, 512, 1.0), (4096, 32_000, 512, 1.0)]


def draw(rows, classes, width, device):
    """Hidden states and weight of a student, which require gradients, and of a teacher."""
    generator = torch.Generator().manual_seed(0)
    for requires_grad in (True, False):
        hidden = torch.randn(rows, width, generator=generator)
        # Logits with a standard deviation of 2.5.
        weight = torch.randn(classes, width, generator=generator) * (2.5 / width**0.5)
        for tensor in (hidden, weight):
            yield tensor.to(device).requires_grad_(requires_grad)


def subjects(rows, classes, width, steepness, device):
    hidden_S, weight_S, hidden_T, weight_T = draw(rows, classes, width, device)
    heads = hidden_S, weight_S, hidden_T, weight_T

    def divergence(preds_S, hidden_T):
        return kd_loss(preds_S, F.linear(hidden_T, weight_T), reduction='none')

    def whole():
        preds_S, preds_T = F.linear(hidden_S, weight_S), F.linear(hidden_T, weight_T)
        return kendall_rank_loss(preds_S, preds_T, steepness)

    losses = {
        'ranking, whole': whole,
        'ranking, chunks': lambda: linear_kendall_rank_loss(*heads, steepness),
        'KL, whole': lambda: divergence(F.linear(hidden_S, weight_S), hidden_T).mean(),
        'KL, chunks': lambda: linear_head_losses(divergence, *heads[:3]).mean(),
    }

    def step(loss):
        hidden_S.grad = weight_S.grad = None
        loss().backward()

    return {name: lambda loss=loss: step(loss) for name, loss in losses.items()}


def measure_case(case, options, progress):
    rows, classes, width, steepness = case
    columns = {
        'case': f'({rows},{width})x{classes} k={steepness:g}',
        'rows': rows,
        'classes': classes,
        'steepness': steepness,
        'surrogate': 'product',
        'dtype': 'float32',
    }
    calls = subjects(rows, classes, width, steepness, options.device)
    return measure(BENCHMARK, columns, calls, 'ranking, whole', options, progress)


def main():
    options = parse_arguments(__doc__)
    rows = measure_all(measure_case, SHORT if options.short else FULL, options)
    show(rows, 'A linear head and its loss; ratio: times faster than the ranking loss, whole')
    save(BENCHMARK, rows, options)


if __name__ == '__main__':
    main()

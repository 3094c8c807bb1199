from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS

from mmkendall.models import MLKDLoss


def definition(preds_S, preds_T, temperatures, w_i, w_b, w_c) -> float:
    """One view, with sums written out."""
    n, c = preds_S.shape
    total = 0.0
    for temperature in temperatures:
        p_s, p_t = (
            np.exp(preds / temperature) / np.exp(preds / temperature).sum(axis=1, keepdims=True)
            for preds in (preds_S, preds_T)
        )
        total += w_i * temperature**2 * (p_t * np.log(p_t / p_s)).sum() / n
        for i in range(n):
            for j in range(n):
                total += w_b * (p_t[i] @ p_t[j] - p_s[i] @ p_s[j]) ** 2 / n
        for a in range(c):
            for b in range(c):
                total += w_c * (p_t[:, a] @ p_t[:, b] - p_s[:, a] @ p_s[:, b]) ** 2 / c
    return total


@pytest.mark.parametrize('weights', [(1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0.2, 0.7, 3)])
def test_equals_its_definition_on_both_views(weights):
    student, teacher = (3 * torch.randn(2, 8, 5)).double()
    loss = MODELS.build(
        dict(
            type='mmkendall.MLKDLoss', temperatures=[4.0, 2.0, 6.0], instance_weight=weights[0],
            batch_weight=weights[1], class_weight=weights[2], loss_weight=0.9,
        )
    )  # fmt: skip
    expected = 0.9 * sum(
        definition(s.numpy(), t.numpy(), (4, 2, 6), *weights)
        for s, t in zip(student.chunk(2), teacher.chunk(2), strict=True)
    )
    np.testing.assert_allclose(loss(student, teacher).item(), expected, rtol=1e-10)


def test_zero_with_the_teachers_logits_and_gradient_without():
    teacher = torch.randn(6, 5)
    assert MLKDLoss()(teacher, teacher).item() == pytest.approx(0, abs=1e-6)
    student = torch.randn(6, 5, requires_grad=True)
    MLKDLoss()(student, teacher).backward()
    assert (student.grad.abs().sum(dim=1) > 0).all()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'temperatures': []}, 'a list of one at least'),
        ({'temperatures': 4.0}, 'a list of one at least'),
        ({'temperatures': [4.0, 0]}, 'temperatures must be positive'),
        ({'class_weight': -1}, 'class_weight must be 0 at least'),
        ({'num_views': 0}, 'num_views must be 1 at least'),
    ],
)
def test_refuses_options(options, message):
    with pytest.raises(ValueError, match=message):
        MLKDLoss(**options)


def test_refuses_a_batch_without_both_views():
    with pytest.raises(ValueError, match='7 rows does not hold 2 views'):
        MLKDLoss()(torch.randn(7, 5), torch.randn(7, 5))

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS

from mmkendall import kendall_rank_loss
from mmkendall.models import LogitStandardization


@pytest.mark.parametrize('unbiased', [False, True])
@pytest.mark.parametrize('shape', [(5, 7), (2, 7, 3, 4)])
def test_equals_its_definition(unbiased, shape):
    logits = 4 * torch.randn(shape, dtype=torch.float64) + 3
    connector = MODELS.build(dict(type='mmkendall.LogitStandardization', unbiased=unbiased))
    array = logits.numpy()
    expected = (array - array.mean(axis=1, keepdims=True)) / array.std(
        axis=1, ddof=int(unbiased), keepdims=True
    )
    np.testing.assert_allclose(connector(logits).numpy(), expected, rtol=1e-9)


def test_is_what_the_ranking_loss_does_under_standardize():
    student, teacher = torch.randn(2, 5, 7)
    zscore = LogitStandardization()
    torch.testing.assert_close(
        kendall_rank_loss(zscore(student), zscore(teacher), 1.0),
        kendall_rank_loss(student, teacher, 1.0, standardize=True),
    )


def test_constant_row_and_single_class():
    logits = torch.ones(2, 5, requires_grad=True)
    zscores = LogitStandardization()(logits)
    zscores.square().sum().backward()
    assert (zscores == 0).all()
    assert logits.grad.isfinite().all()
    with pytest.raises(ValueError, match='1 class in dim=1'):
        LogitStandardization()(torch.ones(2, 1))

from __future__ import annotations

import inspect

import pytest
import torch
from mmengine.registry import MODELS

from mmkendall import kendall_rank_loss
from mmkendall.models import KendallRankLoss


def test_options_are_those_of_the_function():
    """One name and one default for one thing; the module adds two arguments of its own."""
    function = {
        name: parameter.default
        for name, parameter in inspect.signature(kendall_rank_loss).parameters.items()
        if name not in ('preds_S', 'preds_T', 'mask')
    }
    module = {
        name: parameter.default
        for name, parameter in inspect.signature(KendallRankLoss).parameters.items()
    }
    assert module == {**function, 'loss_weight': 1.0, 'teacher_detach': True}


@pytest.mark.parametrize(
    'options',
    [
        {'steepness': 3.0, 'surrogate': 'diffkendall', 'reduction': 'sum'},
        {'dim': -1, 'topk': 2, 'standardize': True, 'backend': 'eager'},
        {'mink': 0.5, 'reduction': 'none'},
    ],
)
def test_passes_options_on(options):
    loss = MODELS.build(dict(type='mmkendall.KendallRankLoss', loss_weight=0.5, **options))
    student, teacher = torch.randn(2, 3, 6).unbind()
    expected = 0.5 * kendall_rank_loss(student, teacher, **options)
    torch.testing.assert_close(loss(student, teacher), expected)
    mask = torch.tensor([True, False, True])
    expected = 0.5 * kendall_rank_loss(student, teacher, mask=mask, **options)
    torch.testing.assert_close(loss(student, teacher, mask), expected)
    assert all(f'{name}={value!r}' in repr(loss) for name, value in options.items())


@pytest.mark.parametrize('detach', [True, False])
def test_teacher_detach(detach):
    student, teacher = (torch.randn(3, 6, requires_grad=True) for _ in range(2))
    KendallRankLoss(steepness=1.0, teacher_detach=detach)(student, teacher).backward()
    assert (student.grad != 0).any()
    assert (teacher.grad is None) == detach


def test_wrong_option_fails_when_built():
    with pytest.raises(ValueError, match=r"backend must be one of .*got 'eagr'"):
        MODELS.build(dict(type='mmkendall.KendallRankLoss', backend='eagr'))

from __future__ import annotations

import inspect
import math
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from mmkendall import kendall_rank_loss
from mmkendall.models import KendallRankLoss

from ..processes import run_in_processes


def test_options_are_those_of_the_function():
    """One name and one default for one thing; the module adds arguments of its own.

    The function needs no ``across``: ``dim=0`` ranks the images of logits (N, C).
    """
    function = {
        name: parameter.default
        for name, parameter in inspect.signature(kendall_rank_loss).parameters.items()
        if name not in ('preds_S', 'preds_T', 'mask', 'class_mask')
    }
    module = {
        name: parameter.default
        for name, parameter in inspect.signature(KendallRankLoss).parameters.items()
    }
    of_the_module = dict(across='classes', gather=False, loss_weight=1.0, teacher_detach=True)
    assert module == {**function, **of_the_module}


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


def tau_of_each_class(student: torch.Tensor, teacher: torch.Tensor, k: float) -> list[float]:
    """1 - tau_d over the images, one class after the other, pair by pair."""
    losses = []
    for column_S, column_T in zip(student.T.tolist(), teacher.T.tolist(), strict=True):
        pairs = [
            math.tanh(k * (column_T[i] - column_T[j])) * math.tanh(k * (column_S[i] - column_S[j]))
            for i in range(len(column_S))
            for j in range(i)
        ]
        losses.append(1 - sum(pairs) / len(pairs))
    return losses


@pytest.mark.parametrize('masked', [False, True])
def test_across_the_batch_equals_its_definition(masked):
    student, teacher = torch.randn(2, 6, 4, dtype=torch.float64)
    mask = torch.tensor([True, False, True, True, False, True]) if masked else None
    counted = mask if masked else slice(None)
    expected = tau_of_each_class(student[counted], teacher[counted], 0.8)
    for reduction, value in (
        ('none', expected),
        ('mean', sum(expected) / 4),
        ('sum', sum(expected)),
    ):
        loss = KendallRankLoss(0.8, reduction=reduction, across='batch', loss_weight=3.0)
        expected_loss = 3 * torch.tensor(value, dtype=torch.float64)
        torch.testing.assert_close(loss(student, teacher, mask), expected_loss)


@pytest.mark.parametrize('num_images', [0, 1])
def test_across_a_batch_without_pairs(num_images):
    student = torch.randn(num_images, 4, requires_grad=True)
    loss = KendallRankLoss(across='batch')(student, torch.randn(num_images, 4))
    loss.backward()
    assert loss.item() == 0
    assert (student.grad == 0).all()


def _linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 4)


def _step(model: nn.Module, part: slice, result: Path) -> None:
    """The loss of a part of the batch and the gradients that it leads to, to a file."""
    torch.manual_seed(1)
    images, teacher = torch.randn(7, 3), torch.randn(7, 4)
    mask = torch.tensor([True, True, False, True, True, True, True])
    loss = KendallRankLoss(0.8, across='batch', gather=True)
    value = loss(model(images[part]), teacher[part], mask[part])
    value.backward()
    torch.save((value.detach(), [parameter.grad for parameter in model.parameters()]), result)


def _step_of_process(rank: int, folder: Path) -> None:
    part = (slice(0, 4), slice(4, 7))[rank]
    _step(nn.parallel.DistributedDataParallel(_linear()), part, folder / f'{rank}.pth')


def test_gathered_over_processes_is_the_loss_of_the_whole_batch(tmp_path):
    """Batches of unlike length, and a masked image: value and averaged gradient are those of one
    process with the whole batch."""
    _step(_linear(), slice(0, 7), tmp_path / 'whole.pth')
    run_in_processes(_step_of_process, 2, tmp_path, tmp_path)
    expected = torch.load(tmp_path / 'whole.pth')
    assert all((grad != 0).any() for grad in expected[1])
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f'{rank}.pth'), expected)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'across': 'images'}, r"across must be one of .*got 'images'"),
        ({'across': 'batch', 'dim': 2}, 'dim must be 1, got 2'),
        ({'gather': True}, "gather=True needs across='batch'"),
    ],
)
def test_across_refuses_options(options, message):
    with pytest.raises(ValueError, match=message):
        KendallRankLoss(**options)


def test_across_the_batch_refuses_inputs():
    loss = KendallRankLoss(across='batch')
    with pytest.raises(ValueError, match=r'takes logits \(N, C\) of one shape, got \(2, 4, 3\)'):
        loss(*torch.randn(2, 2, 4, 3))
    with pytest.raises(ValueError, match=r'mask must be bool of shape \(2,\), got torch.float32'):
        loss(*torch.randn(2, 2, 4), torch.ones(2))

from __future__ import annotations

import inspect
import math
import warnings
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
        {'steepness': 1.0, 'surrogate': 'logistic', 'topk': 4},
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
    for class_mask in (torch.rand(3, 6) < 0.7, torch.arange(6) < 4):
        expected = 0.5 * kendall_rank_loss(
            student, teacher, mask=mask, class_mask=class_mask, **options
        )
        torch.testing.assert_close(loss(student, teacher, mask, class_mask), expected)
    assert all(f'{name}={value!r}' in repr(loss) for name, value in options.items())


@pytest.mark.parametrize('across', ['classes', 'batch'])
def test_a_value_that_is_not_wanted_leaves_the_gradient(across):
    student, teacher = torch.randn(2, 3, 6, dtype=torch.float64).unbind()
    student.requires_grad_()
    losses = [
        KendallRankLoss(1.5, across=across, compute_value=wanted)(student, teacher)
        for wanted in (True, False)
    ]
    grads = [torch.autograd.grad(loss, student)[0] for loss in losses]
    assert losses[0] != 0
    assert losses[1] == 0
    torch.testing.assert_close(*grads, rtol=1e-12, atol=0)


@pytest.mark.parametrize('detach', [True, False])
def test_teacher_detach(detach):
    student, teacher = (torch.randn(3, 6, requires_grad=True) for _ in range(2))
    KendallRankLoss(steepness=1.0, teacher_detach=detach)(student, teacher).backward()
    assert (student.grad != 0).any()
    assert (teacher.grad is None) == detach


def test_wrong_option_fails_when_built():
    with pytest.raises(ValueError, match=r"backend must be one of .*got 'eagr'"):
        MODELS.build(dict(type='mmkendall.KendallRankLoss', backend='eagr'))


def test_logistic_at_the_default_steepness_is_warned_of():
    with pytest.warns(UserWarning, match=r'meant for tanh: pass steepness=1 for RankNet'):
        KendallRankLoss(surrogate='logistic')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        KendallRankLoss(surrogate='logistic', steepness=1)
        KendallRankLoss()


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


def test_across_the_batch_leaves_out_what_does_not_count():
    """An image where a class does not count in it, and a class that does not count at all."""
    student, teacher = torch.randn(2, 6, 4, dtype=torch.float64)
    loss = KendallRankLoss(0.8, across='batch')
    counts = torch.rand(6, 4) < 0.7
    columns = [
        tau_of_each_class(student[kept, i, None], teacher[kept, i, None], 0.8)[0]
        for i, kept in enumerate(counts.T)
    ]
    expected = torch.tensor(columns).double().mean()
    torch.testing.assert_close(loss(student, teacher, class_mask=counts), expected)
    classes = torch.tensor([True, False, True, False])
    of_classes = tau_of_each_class(student[:, classes], teacher[:, classes], 0.8)
    expected = torch.tensor(of_classes).double().mean()
    torch.testing.assert_close(loss(student, teacher, class_mask=classes), expected)
    student[:, ~classes] = teacher[:, ~classes] = -math.inf
    torch.testing.assert_close(loss(student, teacher), expected)
    with pytest.raises(ValueError, match=r'class_mask must be of shape \(4,\)'):
        loss(student, teacher, class_mask=torch.ones(6, dtype=torch.bool))


@pytest.mark.filterwarnings('ignore:.*a batch of one image')
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


# The rows of the batch of each of two processes, and of the one that stands for both.
SHARES = {
    'uneven': (slice(0, 4), slice(4, 7), slice(0, 7)),
    'one without images': (slice(0, 7), slice(0, 0), slice(0, 7)),
    'none with images': (slice(0, 0), slice(0, 0), slice(0, 0)),
}


def _steps_of_process(rank: int, folder: Path) -> None:
    for name, parts in SHARES.items():
        model = nn.parallel.DistributedDataParallel(_linear())
        _step(model, parts[rank], folder / f'{name} {rank}.pth')


@pytest.mark.long
def test_gathered_over_processes_is_the_loss_of_the_whole_batch(tmp_path):
    """Batches of unlike length, and a masked image: value and averaged gradient are those of one
    process with the whole batch."""
    run_in_processes(_steps_of_process, 2, tmp_path, tmp_path)
    for name, parts in SHARES.items():
        _step(_linear(), parts[2], tmp_path / 'whole.pth')
        expected = torch.load(tmp_path / 'whole.pth')
        assert all((grad != 0).any() for grad in expected[1]) == (name != 'none with images')
        for rank in range(2):
            torch.testing.assert_close(torch.load(tmp_path / f'{name} {rank}.pth'), expected)


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

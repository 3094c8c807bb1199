"""PLD, ListMLE, WTTM, BiLD and Pearson as a config names them; MRKD as its configs make it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample

from mmkendall.functional import pld_loss

from ..conftest import REPOSITORY

DIGITS = 'resnet18-w16_resnet18-w4_1xb64_digits'
NAMES = ('BiLDLoss', 'ListMLELoss', 'PLDLoss', 'PearsonLoss', 'WTTMLoss')


@pytest.mark.parametrize('name', NAMES)
def test_weight_and_teacher(name):
    student, teacher = torch.randn(2, 4, 6, dtype=torch.float64)
    student.requires_grad_()
    one, three = (MODELS.build(dict(type=f'mmkendall.{name}', loss_weight=w)) for w in (1, 3))
    torch.testing.assert_close(three(student, teacher), 3 * one(student, teacher))
    teacher.requires_grad_()
    one(student, teacher).backward()
    assert teacher.grad is None
    if name != 'ListMLELoss':
        loss = MODELS.build(dict(type=f'mmkendall.{name}', teacher_detach=False))
        loss(student, teacher).backward()
        assert (teacher.grad != 0).any()


@pytest.mark.parametrize(
    ('name', 'options', 'message'),
    [
        ('PLDLoss', dict(temperature=0), 'temperature must be positive'),
        ('PLDLoss', dict(topk=0), 'topk must be an integer of 1 at least'),
        ('PLDLoss', dict(reduction='batchmean'), 'reduction must be one of'),
        ('ListMLELoss', dict(topk=0.2), 'topk must be an integer of 1 at least'),
        ('ListMLELoss', dict(reduction='batchmean'), 'reduction must be one of'),
        ('WTTMLoss', dict(temperature=math.inf), 'temperature must be positive'),
        ('WTTMLoss', dict(reduction='batchmean'), 'reduction must be one of'),
        ('BiLDLoss', dict(topk=1), 'topk must be an integer of 2 at least'),
        ('PearsonLoss', dict(inter_weight=-1), 'inter_weight must be 0 at least'),
    ],
)
def test_options_are_checked_when_it_is_built(name, options, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(dict(type=f'mmkendall.{name}', **options))


def test_pld_gets_the_labels_of_the_batch():
    """From the student's head, in the config of the digits: the label goes first."""
    cfg = Config.fromfile(REPOSITORY / f'configs/digits/pld_logits_{DIGITS}.py')
    cfg.model.teacher_ckpt = None
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.train()
    logits = {}
    for role in ('architecture', 'teacher'):
        network = getattr(model, role)
        network.head.fc.register_forward_hook(
            lambda *call, role=role: logits.update({role: call[2].detach()})
        )
    labels = torch.tensor([3, 9, 0, 3])
    samples = [DataSample().set_gt_label(label) for label in labels.tolist()]
    losses = model(torch.randn(4, 1, 8, 8), samples, mode='loss')
    assert losses['student.loss'] == 0
    pair = logits['architecture'], logits['teacher']
    torch.testing.assert_close(losses['distill.loss_pld'].detach(), pld_loss(*pair, labels))
    assert losses['distill.loss_pld'] != pld_loss(*pair)


def mrkd_by_hand(student: np.ndarray, teacher: np.ndarray) -> dict[str, float]:
    """Kendall of z-scored logits, as a logistic function of products, and Pearson of logits."""

    def scores(rows):
        return (rows - rows.mean(1, keepdims=True)) / rows.std(1, keepdims=True, ddof=1)

    def kendall(rows_S, rows_T):
        first, second = np.triu_indices(rows_S.shape[1], 1)
        s, t = (rows[:, first] - rows[:, second] for rows in (scores(rows_S), scores(rows_T)))
        return np.mean(1 - (2 / (1 + np.exp(-0.5 * s * t)) - 1))

    def pearson(rows_S, rows_T):
        pairs = zip(rows_S, rows_T, strict=True)
        return np.mean([1 - np.corrcoef(s, t)[0, 1] for s, t in pairs])

    return {
        'loss_kendall': kendall(student, teacher),
        'loss_kendall_batch': kendall(student.T, teacher.T),
        'loss_pearson': pearson(student, teacher) + pearson(student.T, teacher.T),
    }


@pytest.mark.parametrize(
    ('name', 'classes', 'weight'),
    [
        (f'digits/mrkd_logits_{DIGITS}', 10, None),
        ('cifar100/mrkd/mrkd_logits_resnet32x4_resnet8x4_1xb64_cifar100', 100, 32),
        ('imagenet/mrkd/mrkd_logits_resnet34_resnet18_8xb64_in1k', 1000, 2),
    ],
)
def test_mrkd(name, classes, weight):
    """The three terms of a config on a batch of 64 are those of the published code."""
    losses = Config.fromfile(REPOSITORY / f'configs/{name}.py').model.distiller.distill_losses
    student, teacher = 3 * torch.randn(2, 64, classes, dtype=torch.float64)
    expected = mrkd_by_hand(student.numpy(), teacher.numpy())
    assert set(losses) == set(expected)
    for key, config in losses.items():
        assert weight is None or config.loss_weight == weight
        found = MODELS.build(config)(student, teacher).item() / config.loss_weight
        assert found == pytest.approx(expected[key], rel=1e-7), key

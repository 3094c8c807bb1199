from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.registry import MODELS

from mmkendall.models import DKDLoss


def softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max())
    return exponents / exponents.sum()


def kl(p: np.ndarray, q: np.ndarray) -> float:
    return float((p * np.log(p / q)).sum())


def definition(preds_S, preds_T, labels, temperature, alpha, beta) -> np.ndarray:
    """Row by row, as the paper's section 3.1 says it."""
    losses = []
    for student, teacher, label in zip(preds_S, preds_T, labels, strict=True):
        p_s, p_t = softmax(student / temperature), softmax(teacher / temperature)
        b_s, b_t = (np.array([p[label], 1 - p[label]]) for p in (p_s, p_t))
        hat_s, hat_t = (np.delete(p, label) / (1 - p[label]) for p in (p_s, p_t))
        losses.append(temperature**2 * (alpha * kl(b_t, b_s) + beta * kl(hat_t, hat_s)))
    return np.array(losses)


@pytest.mark.parametrize('reduction', ['none', 'mean', 'sum'])
@pytest.mark.parametrize('num_classes', [2, 7])
def test_equals_its_definition(reduction, num_classes):
    student, teacher = 3 * torch.randn(2, 5, num_classes, dtype=torch.float64)
    labels = torch.randint(num_classes, (5,))
    loss = DKDLoss(temperature=2.5, alpha=0.7, beta=3, reduction=reduction, loss_weight=0.5)
    rows = definition(student.numpy(), teacher.numpy(), labels.numpy(), 2.5, 0.7, 3)
    expected = {'none': rows, 'mean': rows.mean(), 'sum': rows.sum()}[reduction]
    np.testing.assert_allclose(loss(student, teacher, labels).numpy(), 0.5 * expected, rtol=1e-10)


def test_weight_does_not_grow_with_the_batch():
    student, teacher = torch.randn(2, 6, 7)
    labels = torch.randint(7, (6,))
    loss = DKDLoss()
    twice = loss(student.repeat(2, 1), teacher.repeat(2, 1), labels.repeat(2))
    torch.testing.assert_close(twice, loss(student, teacher, labels))


def test_gradient_stays_finite_for_a_sure_teacher_and_a_wrong_student():
    student = torch.tensor([[-80.0, 40.0, 0.0]], requires_grad=True)
    loss = DKDLoss(temperature=1.0)(student, torch.tensor([[90.0, 0.0, -90.0]]), torch.tensor([0]))
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()
    assert (student.grad != 0).any()


def test_warmup_follows_the_epoch_of_the_run():
    student, teacher = torch.randn(2, 4, 7)
    labels = torch.randint(7, (4,))
    loss = MODELS.build(dict(type='mmkendall.DKDLoss', warmup_epochs=20, loss_weight=2.0))
    full = loss(student, teacher, labels)
    assert loss.present_weight == 2.0  # No run, no warm-up.
    hub = MessageHub.get_instance('test_warmup_follows_the_epoch_of_the_run')
    hub.update_info('loop_stage', 'train')
    for epoch, share in ((0, 1 / 20), (9, 0.5), (19, 1), (200, 1)):
        hub.update_info('epoch', epoch)
        torch.testing.assert_close(loss(student, teacher, labels), share * full)
    hub.update_info('max_epochs', 1)
    with pytest.warns(UserWarning, match='20 epochs does not end in a training of 1'):
        assert loss.present_weight == 2.0
    hub.update_info('epoch', 0)
    assert DKDLoss(warmup_epochs=0).present_weight == 1.0
    hub.pop_info('loop_stage')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'temperature': 0}, 'temperature must be positive'),
        ({'beta': -1}, 'beta must be 0 at least'),
        ({'alpha': float('nan')}, 'alpha must be 0 at least'),
        ({'reduction': 'batchmean'}, "reduction must be one of .*got 'batchmean'"),
        ({'warmup_epochs': 2.5}, 'warmup_epochs must be a whole number'),
    ],
)
def test_refuses_options(options, message):
    with pytest.raises(ValueError, match=message):
        DKDLoss(**options)


def test_refuses_inputs():
    logits = torch.randn(4, 7)
    with pytest.raises(ValueError, match=r'one shape, got \(4, 7\) and \(4, 6\)'):
        DKDLoss()(logits, logits[:, 1:], torch.zeros(4, dtype=torch.long))
    with pytest.raises(ValueError, match='mixed labels have no target class'):
        DKDLoss()(logits, logits, logits.softmax(1))

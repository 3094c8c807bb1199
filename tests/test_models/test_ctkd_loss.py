from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.registry import MODELS

from mmkendall.models import CTKDLoss


def definition(preds_S: np.ndarray, preds_T: np.ndarray, temperature: float) -> float:
    def softmax(logits):
        exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponents / exponents.sum(axis=1, keepdims=True)

    p_s, p_t = softmax(preds_S / temperature), softmax(preds_T / temperature)
    return temperature**2 * float((p_t * np.log(p_t / p_s)).sum(axis=1).mean())


def temperature_of(theta: float, low: float = 1.0, width: float = 20.0) -> float:
    return low + width / (1 + math.exp(-theta))


def test_equals_its_definition_and_climbs_on_its_parameter():
    student, teacher = (3 * torch.randn(2, 5, 7)).double().unbind()
    student.requires_grad_()
    loss = CTKDLoss(2.0, 9.0, initial=-0.3, reversal_max=0.6, loss_weight=0.5).double()
    value = loss(student, teacher)
    value.backward()
    arrays = student.detach().numpy(), teacher.numpy()

    def expected(theta, preds_S=arrays[0]):
        return 0.5 * definition(preds_S, arrays[1], temperature_of(theta, 2, 9))

    np.testing.assert_allclose(value.item(), expected(-0.3), rtol=1e-7)
    slope = (expected(-0.3 + 1e-5) - expected(-0.3 - 1e-5)) / 2e-5
    np.testing.assert_allclose(loss.theta.grad.item(), -0.6 * slope, rtol=1e-5)
    # The student's gradient is not reversed.
    step = np.zeros_like(arrays[0])
    step[1, 2] = 1e-5
    slope = (expected(-0.3, arrays[0] + step) - expected(-0.3, arrays[0] - step)) / 2e-5
    np.testing.assert_allclose(student.grad[1, 2].item(), slope, rtol=1e-5)


def test_strength_rises_as_half_a_cosine():
    loss = MODELS.build(dict(type='mmkendall.CTKDLoss'))
    assert loss.reversal == 1.0  # No run, no schedule.
    assert loss.temperature.item() == pytest.approx(1 + 20 / (1 + math.exp(-1)))
    hub = MessageHub.get_instance('test_strength_rises_as_half_a_cosine')
    hub.update_info('loop_stage', 'train')
    for epoch in range(15):
        hub.update_info('epoch', epoch)
        expected = (1 - math.cos(math.pi * min(epoch + 1, 10) / 10)) / 2
        assert loss.reversal == pytest.approx(expected)
    loss(*torch.randn(2, 4, 7))
    assert hub.get_scalar('train/temperature').current() == pytest.approx(loss.temperature.item())
    hub.pop_info('loop_stage')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'temperature_min': 0}, 'temperature_min must be positive'),
        ({'temperature_range': float('inf')}, 'temperature_range must be positive and finite'),
        ({'reversal_max': -1}, 'reversal_max must be 0 at least'),
        ({'ramp_epochs': -1}, 'ramp_epochs must be a whole number'),
        ({'initial': float('nan')}, 'initial must be finite'),
    ],
)
def test_refuses_options(options, message):
    with pytest.raises(ValueError, match=message):
        CTKDLoss(**options)

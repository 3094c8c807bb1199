from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.registry import METRICS
from torch import nn

from mmkendall.evaluation import KeepPredictions
from mmkendall.evaluation.measures import fit_temperature, measure


def samples_of(logits: torch.Tensor) -> list[dict]:
    """What mmpretrain's heads make of logits."""
    scores = logits.softmax(dim=1)
    return [
        {'pred_score': row, 'gt_label': torch.tensor([number % 3]), 'group': number // 2}
        for number, row in enumerate(scores)
    ]


def kept(logits: torch.Tensor, output: object, training: bool = False) -> KeepPredictions:
    """After a batch whose head returned ``output``."""
    head = nn.Module()
    head.forward = lambda: output
    head.train(training)
    metric = METRICS.build(dict(type='mmkendall.KeepPredictions'))
    with metric.watch(head):
        head()
        metric.process({}, samples_of(logits))
        metric.process({}, samples_of(logits))  # Of which the head has not been seen.
    head()
    assert metric._logits is None
    metric.evaluate(2 * len(logits))
    return metric


def test_what_underflows_as_a_probability_is_kept_as_a_logit():
    logits = 100 * torch.randn(6, 4)
    found = kept(logits, logits).predictions
    np.testing.assert_array_equal(found.scores[:6], logits.numpy())
    probabilities = logits.softmax(dim=1)
    assert (probabilities == 0).any()
    np.testing.assert_array_equal(found.scores[6:], probabilities.log().numpy())
    assert found.labels.tolist() == [0, 1, 2, 0, 1, 2] * 2
    assert found.groups.tolist() == [0, 0, 1, 1, 2, 2] * 2


@pytest.mark.parametrize('kind', ['half precision', 'no softmax', 'shape', 'tuple', 'training'])
def test_outputs_of_other_heads(kind):
    logits = torch.randn(6, 4)
    output = {
        'half precision': logits.bfloat16(),
        'no softmax': 2 * logits,
        'shape': logits[:, :3],
        'tuple': (logits,),
        'training': logits,
    }[kind]
    found = kept(logits, output, training=kind == 'training').predictions
    expected = logits.log_softmax(dim=1)
    if kind == 'half precision':
        expected = torch.cat((output.float(), expected))
    else:
        expected = expected.repeat(2, 1)
    np.testing.assert_allclose(found.scores, expected.numpy(), atol=1e-5)


def test_a_temperature_is_found_for_logits_of_any_width():
    """Of probabilities that underflowed there is none: all ends of the search are as bad."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(3000, 5, generator=generator)
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)
    metric = KeepPredictions()
    head = nn.Identity().eval()
    with metric.watch(head):
        samples = samples_of(head(50 * logits))
        for sample, label in zip(samples, labels, strict=True):
            sample['gt_label'] = label
        metric.process({}, samples)
    metric.evaluate(3000)
    predictions = metric.predictions
    assert fit_temperature(predictions) == pytest.approx(50, rel=0.1)
    found = measure(predictions, predictions)
    assert np.isfinite(found['nll'])
    assert found['ece_scaled'] < 3

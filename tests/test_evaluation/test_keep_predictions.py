from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import METRICS
from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS
from mmpretrain.structures import DataSample
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


def test_the_logits_are_those_of_mmpretrains_head():
    """As an evaluator hands the samples over, with weights that leave most probabilities 0."""
    head = MMPRETRAIN_MODELS.build(dict(type='LinearClsHead', num_classes=7, in_channels=3)).eval()
    torch.nn.init.normal_(head.fc.weight, std=100)
    features = torch.randn(4, 3)
    samples = [DataSample().set_gt_label(number) for number in range(4)]
    metric = KeepPredictions()
    with metric.watch(head), torch.no_grad():
        Evaluator([metric]).process(head.predict((features,), samples))
    metric.evaluate(4)
    expected = torch.nn.functional.linear(features, head.fc.weight, head.fc.bias)
    np.testing.assert_allclose(metric.predictions.scores, expected.detach().numpy(), rtol=1e-5)
    assert any((sample.pred_score == 0).sum() > 1 for sample in samples)


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

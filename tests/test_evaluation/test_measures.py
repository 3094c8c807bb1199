"""Measures against other libraries' on drawn predictions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau

from mmkendall.evaluation.measures import (
    Predictions,
    by_group,
    calibration_error,
    fit_temperature,
    likeness,
    measure,
    negative_log_likelihood,
    severity,
    top_k,
)


def drawn(samples: int = 400, classes: int = 12, scale: float = 2.0, seed: int = 0) -> Predictions:
    random = np.random.default_rng(seed)
    scores = (scale * random.standard_normal((samples, classes))).astype(np.float32)
    labels = np.where(
        random.random(samples) < 0.6, scores.argmax(axis=1), random.integers(0, classes, samples)
    )
    return Predictions(scores, labels, random.integers(0, 7, samples))


def test_against_torchmetrics():
    torchmetrics = pytest.importorskip('torchmetrics.functional.classification')
    predictions = drawn()
    scores, labels = torch.from_numpy(predictions.scores), torch.from_numpy(predictions.labels)
    expected = torchmetrics.multiclass_calibration_error(
        scores.double().softmax(1), labels, num_classes=12, n_bins=15
    )
    assert calibration_error(predictions) == pytest.approx(100 * expected.item(), rel=1e-5)
    expected = torchmetrics.multiclass_accuracy(scores, labels, 12, average='micro', top_k=5)
    assert top_k(predictions, 5) == pytest.approx(100 * expected.item())
    expected = torch.nn.functional.cross_entropy(scores.double(), labels)
    assert negative_log_likelihood(predictions) == pytest.approx(expected.item())


@pytest.mark.parametrize('constant', [0.0, -40.0])
def test_log_probabilities_are_logits_but_for_a_constant(constant):
    predictions = drawn()
    moved = Predictions(predictions.scores + np.float32(constant), predictions.labels)
    expected = measure(Predictions(predictions.scores, predictions.labels))
    assert measure(moved) == pytest.approx(expected, rel=1e-4)


def test_the_temperature_that_was_put_in_is_found():
    random = np.random.default_rng(1)
    scores = 2 * random.standard_normal((4000, 8))
    shares = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    labels = np.array([random.choice(8, p=row) for row in shares])
    wrong_scale = Predictions(scores * 3, labels)
    assert fit_temperature(wrong_scale) == pytest.approx(3, rel=0.1)
    found = measure(wrong_scale, validation=wrong_scale)
    assert found['ece_scaled'] < 3 < found['ece']
    assert found['nll_scaled'] < found['nll']


def test_likeness():
    random = np.random.default_rng(2)
    student, teacher = random.standard_normal((2, 50, 9))
    found = likeness(student, teacher)
    taus = [kendalltau(*rows).statistic for rows in zip(student, teacher, strict=True)]
    assert found['tau'] == pytest.approx(np.mean(taus), abs=1e-6)
    low = [
        kendalltau(row[order], other[order]).statistic
        for row, other, order in zip(student, teacher, teacher.argsort(axis=1)[:, :5], strict=True)
    ]
    assert found['tau_low'] == pytest.approx(np.mean(low), abs=1e-6)
    assert found['agreement'] == 100 * np.mean(student.argmax(1) == teacher.argmax(1))
    shared = [
        len(set(one.argsort()[-5:]) & set(other.argsort()[-5:])) / 5
        for one, other in zip(student, teacher, strict=True)
    ]
    assert found['top5_overlap'] == pytest.approx(100 * np.mean(shared))
    assert likeness(teacher, teacher)['tau'] == 1


def test_mistakes_groups_and_left_out_classes():
    scores = np.eye(4)[[0, 1, 2, 3, 0, 1]]
    labels = np.array([0, 0, 2, 1, 3, 3])
    predictions = Predictions(scores, labels, np.array(['a', 'b', 'a', 'b', 'b', 'a']))
    # The mistakes are 0 -> 1, 1 -> 3, 3 -> 0 and 3 -> 1.
    assert severity(predictions, np.array([0, 0, 1, 1])) == 25
    assert by_group(predictions) == {'groups': ['a', 'b'], 'samples': [3, 3], 'right': [2, 0]}
    found = measure(predictions, left_out=np.array([3]))
    assert (found['top1_left_out'], found['top1_shown']) == (0, 50)


def test_a_class_of_probability_zero():
    predictions = Predictions(np.array([[0.0, -np.inf], [-1.0, 0.0]]), np.array([0, 1]))
    assert measure(predictions)['top1'] == 100
    wrong = Predictions(np.array([[0.0, -np.inf]]), np.array([1]))
    assert measure(wrong)['nll'] == np.inf


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ValueError, match=r'labels must have the shape \(3,\)'):
        Predictions(np.zeros((3, 2)), np.zeros(2))
    with pytest.raises(ValueError, match='1 rows of 2 hold NaN'):
        measure(Predictions(np.array([[0.0, np.nan], [0.0, 1.0]]), np.array([0, 1])))

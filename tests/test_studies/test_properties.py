"""The properties of a teacher's scores are those of scores whose properties are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax

from mmkendall.studies.properties import PROPERTIES, properties


def drawn(images: int = 400, classes: int = 30, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of spread 2, and labels that are drawn from their probabilities."""
    generator = np.random.default_rng(seed)
    scores = 2 * generator.standard_normal((images, classes))
    chances = np.exp(log_softmax(scores, axis=1))
    labels = np.array([generator.choice(classes, p=row) for row in chances])
    return scores, labels


def test_logits_as_they_are():
    scores, labels = drawn()
    found = properties(scores, labels)
    assert found.keys() == PROPERTIES.keys()
    assert found['spread'] == pytest.approx(2, rel=0.05)
    assert found['spread_varies'] < 0.2
    assert abs(found['kurtosis']) < 0.3
    assert found['tied'] == 0
    # The labels were drawn at this temperature, so no other is much better.
    assert found['nll_scaled'] <= found['nll'] <= found['nll_scaled'] + 0.02


def test_what_is_done_to_them_shows():
    scores, labels = drawn()
    plain = properties(scores, labels)
    wide = properties(8 * scores, labels)
    assert wide['spread'] == pytest.approx(8 * plain['spread'])
    assert wide['nll'] > plain['nll'] + 1
    assert wide['nll_scaled'] == pytest.approx(plain['nll_scaled'], abs=1e-4)
    factors = np.exp(np.random.default_rng(1).standard_normal((len(scores), 1)))
    each = properties(factors * scores, labels)
    assert each['spread_varies'] > 0.9
    assert each['nll_scaled'] > plain['nll_scaled'] + 0.02
    assert each['top1'] == plain['top1']
    wild = scores.copy()
    wild[:, :2] += 50
    assert properties(wild, labels)['kurtosis'] > plain['kurtosis'] + 2


def test_ties_and_minus_infinity():
    scores, labels = drawn(classes=4)
    scores[:, 2:] = -np.inf
    found = properties(scores, labels)
    assert found['tied'] == pytest.approx(100 / 6)
    assert np.isfinite(list(found.values())).all()
    level = properties(np.zeros((5, 4)), np.zeros(5, int))
    assert level['tied'] == 100
    assert level['nll_scaled'] == pytest.approx(np.log(4))

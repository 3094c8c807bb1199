"""Intervals cover a known effect as often as they claim, and a null arm is called null."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mmkendall.studies.statistics import (
    Difference,
    over_cases,
    over_seeds,
    over_seeds_and_groups,
)

REPEATS = 2000


def covered(differences: list[Difference], effect: float) -> float:
    return float(np.mean([each.low <= effect <= each.high for each in differences]))


@pytest.mark.parametrize('effect', [0.0, 0.7])
def test_interval_over_seeds_covers_as_often_as_it_claims(effect):
    random = np.random.default_rng(0)
    rival = 80 + random.normal(0, 1, (REPEATS, 5))
    arm = rival + effect + random.normal(0, 0.5, (REPEATS, 5))
    found = [over_seeds(*pair) for pair in zip(arm, rival, strict=True)]
    assert 0.935 < covered(found, effect) < 0.965
    if effect == 0:
        called = np.mean([each.verdict == 'no difference' for each in found])
        assert 0.935 < called < 0.965
        assert 0.035 < np.mean([each.p_value < 0.05 for each in found]) < 0.065


def test_intervals_of_several_comparisons_hold_together():
    random = np.random.default_rng(1)
    differences = random.normal(0, 1, (REPEATS, 8, 6))
    together = [
        all(over_seeds(arm, np.zeros(6), comparisons=8).low <= 0
            <= over_seeds(arm, np.zeros(6), comparisons=8).high for arm in study)
        for study in differences[:600]
    ]  # fmt: skip
    assert 0.93 < np.mean(together) < 0.98


@pytest.mark.parametrize(
    ('of_seeds', 'of_groups', 'residual'), [(0.5, 0.0, 1.0), (0.0, 1.0, 1.0), (0.4, 1.0, 2.0)]
)
def test_interval_over_seeds_and_groups_covers_at_least_what_it_claims(
    of_seeds, of_groups, residual
):
    random = np.random.default_rng(2)
    samples = random.integers(20, 60, 20)
    found = []
    for _ in range(1000):
        difference = (
            0.3
            + random.normal(0, of_seeds, (5, 1))
            + random.normal(0, of_groups, (1, 20))
            + random.normal(0, residual, (5, 20))
        )
        found.append(over_seeds_and_groups(difference, np.zeros((5, 20)), samples))
    assert 0.93 < covered(found, 0.3) <= 1
    assert np.mean([each.high - each.low for each in found]) < 6 * np.hypot(
        of_seeds / 5**0.5, np.hypot(of_groups, residual) / 20**0.5
    )


def test_it_is_the_paired_t_test():
    random = np.random.default_rng(3)
    arm, rival = random.normal(1, 1, 7), random.normal(0, 1, 7)
    found = over_seeds(arm, rival)
    expected = stats.ttest_rel(arm, rival)
    interval = expected.confidence_interval()
    assert found.mean == pytest.approx((arm - rival).mean())
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_an_arm_beside_itself_is_null():
    values = [81.2, 80.9, 82.0]
    found = over_seeds(values, values)
    assert (found.mean, found.low, found.high, found.p_value) == (0, 0, 0, 1)
    assert found.verdict == 'no difference'
    groups = np.array([values, values])
    found = over_seeds_and_groups(groups, groups, [5, 6, 7])
    assert (found.mean, found.verdict) == (0, 'no difference')


def test_one_seed_tells_nothing_of_certainty():
    found = over_seeds([81.0], [80.0])
    assert found.mean == 1.0
    assert np.isnan(found.low)
    assert found.verdict == 'unknown'


def test_many_seeds_do_not_make_up_for_few_cases():
    of_cases = [Difference(mean, 0, 0, 0, 1000) for mean in (0.2, 1.4)]
    found = over_cases(of_cases)
    assert found.mean == pytest.approx(0.8)
    assert found.low < 0 < found.high


def test_what_is_not_paired_is_refused():
    with pytest.raises(ValueError, match='paired, got 2 and 3'):
        over_seeds([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match='must be'):
        over_seeds_and_groups(np.zeros((2, 3)), np.zeros((2, 4)), [1, 1, 1])

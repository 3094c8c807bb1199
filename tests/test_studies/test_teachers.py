"""What is done to a teacher is what the pages say it is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata

from mmkendall.studies.teachers import (
    CHANGES,
    HEADS,
    apply_changes,
    ensemble,
    out_of_fold,
    steps_of,
)

SCORES = np.random.default_rng(0).normal(0, 3, (40, 12)).astype(np.float32)


def changed(kind: str, seed: int = 0, **options) -> np.ndarray:
    return apply_changes(SCORES, [dict(type=kind, **options)], [seed, 1])


@pytest.mark.parametrize('kind', ['scale', 'power', 'scale_per_sample', 'order'])
def test_monotone_changes_keep_the_order(kind):
    options = dict(factor=4.0) if kind == 'scale' else {}
    found = changed(kind, **options)
    np.testing.assert_array_equal(rankdata(found, axis=1), rankdata(SCORES, axis=1))
    assert not np.allclose(found, SCORES)


@pytest.mark.parametrize('kind', [name for name in CHANGES if name != 'scale'])
def test_the_same_seed_gives_the_same(kind):
    np.testing.assert_array_equal(changed(kind), changed(kind))
    drawn = kind in ('scale_per_sample', 'outliers', 'noise')
    assert (changed(kind) != changed(kind, seed=1)).any() == drawn
    assert changed(kind).dtype == np.float32
    assert changed(kind).shape == SCORES.shape


def test_the_bend_keeps_the_spread():
    np.testing.assert_allclose(changed('power').std(1), SCORES.std(1), rtol=1e-5)
    constant = apply_changes(np.full((2, 5), 3.0), [dict(type='power')], [0])
    np.testing.assert_array_equal(constant, 0)


def test_outliers_are_as_many_as_asked_for():
    assert ((changed('outliers', count=3) != SCORES).sum(1) == 3).all()


def test_few_steps_between_the_same_ends():
    found = changed('quantise', bits=2)
    assert max(len(np.unique(row)) for row in found) <= 4
    np.testing.assert_allclose(found.max(1), SCORES.max(1), rtol=1e-5)
    assert np.abs(found - SCORES).max() <= np.ptp(SCORES, axis=1).max() / 6 + 1e-5


def test_the_first_k_keep_their_scores():
    found = changed('top', k=4)
    assert (np.isfinite(found).sum(1) == 4).all()
    np.testing.assert_array_equal(found.max(1), SCORES.max(1))
    np.testing.assert_array_equal(found[np.isfinite(found)], SCORES[np.isfinite(found)])


def test_changes_go_from_left_to_right():
    steps = [dict(type='top', k=4), dict(type='order')]
    found = apply_changes(SCORES, steps, [0])
    assert [sorted(set(row)) for row in found] == [[3.5, 8, 9, 10, 11]] * len(SCORES)


def test_an_ensemble_is_the_mean_of_scaled_members():
    found = ensemble([SCORES, SCORES + 1], scales=[1.0, 3.0])
    np.testing.assert_allclose(found, (SCORES + 3 * (SCORES + 1)) / 2, rtol=1e-6)


@pytest.mark.parametrize('kind', HEADS)
def test_a_head_scores_a_sample_that_it_did_not_see(kind):
    """Features that say which sample it is: a head that saw it would know its label."""
    random = np.random.default_rng(1)
    labels = np.arange(240) % 4
    groups = np.arange(240) // 12
    told = np.eye(4)[labels] + random.normal(0, 0.3, (240, 4))
    scores, whole = out_of_fold(HEADS[kind], told, labels, groups, 4)
    assert (scores.argmax(1) == labels).mean() > 0.8
    assert (whole(told).argmax(1) == labels).mean() > 0.8
    drawn = random.permutation(labels)
    identity = np.eye(240) * 5
    scores, whole = out_of_fold(HEADS[kind], identity, drawn, groups, 4)
    assert (scores.argmax(1) == drawn).mean() < 0.45
    assert (whole(identity).argmax(1) == drawn).mean() > 0.9


def test_a_class_without_samples_is_last():
    features, labels = np.eye(6), np.array([0, 0, 2, 2, 3, 3])
    assert (HEADS['svc'](features, labels, 5)(features)[:, [1, 4]] == -np.inf).all()
    assert (HEADS['forest'](features, labels, 5)(features)[:, [1, 4]] == 0).all()


@pytest.mark.parametrize(
    ('by', 'message'),
    [
        (dict(type='cubed'), 'must be one of scale, power'),
        ([dict(type='order'), dict(type='svc')], "'svc' makes scores of teachers"),
        (dict(), 'got None'),
        (dict(type='scale'), "'scale': missing a required argument: 'factor'"),
        (dict(type='forest', leaves=3), "'forest': got an unexpected keyword argument"),
        (dict(type='ensemble', scale=[1.0]), "'ensemble': got an unexpected keyword argument"),
    ],
)
def test_what_is_unknown_is_refused(by, message):
    with pytest.raises(ValueError, match=message):
        steps_of(by)

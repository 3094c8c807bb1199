"""Differences between two ways to train, with how certain they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Difference:
    """One way to train minus its rival, in the unit of what was measured.

    Attributes:
        mean: the difference.
        low: lower end of its interval; NaN where there are too few values for one.
        high: upper end.
        p_value: two-sided, of no difference at all.
        count: how many values it comes from.
    """

    mean: float
    low: float
    high: float
    p_value: float
    count: int

    @property
    def verdict(self) -> str:
        """What the interval says, in one word."""
        if math.isnan(self.low):
            return 'unknown'
        if self.low > 0:
            return 'higher'
        return 'lower' if self.high < 0 else 'no difference'


def over_seeds(
    arm: Sequence[float], rival: Sequence[float], comparisons: int = 1, level: float = 0.95
) -> Difference:
    """Paired over seeds: Student's t of the differences.

    Args:
        arm: a value a seed.
        rival: the rival's, of the same seeds in the same order.
        comparisons: how many differences a table shows. All their intervals together hold with
            the probability ``level``, and p-values grow by the same factor (Bonferroni).
        level: of the interval.

    Raises:
        ValueError: they are not as many.
    """
    if len(arm) != len(rival):
        raise ValueError(f'arm and rival must be paired, got {len(arm)} and {len(rival)} values')
    return _of_values(np.subtract(arm, rival), comparisons, level)


def over_cases(
    differences: Sequence[Difference], comparisons: int = 1, level: float = 0.95
) -> Difference:
    """Over cases, such as teachers and splits of the data, each of which counts alike.

    A case's own mean is one value: what it varies by from case to case is in the interval, and no
    number of seeds makes up for few cases.
    """
    return _of_values(np.array([each.mean for each in differences]), comparisons, level)


def over_seeds_and_groups(
    arm: np.ndarray,
    rival: np.ndarray,
    samples: Sequence[int],
    comparisons: int = 1,
    level: float = 0.95,
) -> Difference:
    """For new seeds and new groups of test samples at once.

    The variances over seeds and over groups are added, and their degrees of freedom follow
    Satterthwaite. What varies with both is in both, so the interval is a little too wide.

    Args:
        arm: (seeds, groups), accuracy in each group.
        rival: the rival's, of the same seeds and groups.
        samples: how many each group holds; a group counts by its samples.
        comparisons: see :func:`over_seeds`.
        level: of the interval.

    Raises:
        ValueError: shapes differ.
    """
    weights = np.asarray(samples, dtype=np.float64)
    if arm.shape != rival.shape or arm.shape[1:] != weights.shape:
        raise ValueError(
            'arm, rival and samples must be (seeds, groups), the same, and (groups,), got '
            f'{arm.shape}, {rival.shape} and {weights.shape}'
        )
    weights /= weights.sum()
    values = arm - rival
    seeds, groups = values.shape
    of_seeds, of_groups = values @ weights, values.mean(axis=0)
    mean = float(of_seeds.mean())
    if seeds < 2 or groups < 2:
        return Difference(mean, math.nan, math.nan, math.nan, seeds * groups)
    variances = np.array(
        [
            of_seeds.var(ddof=1) / seeds,
            groups / (groups - 1) * np.sum(weights**2 * (of_groups - mean) ** 2),
        ]
    )
    total = variances.sum()
    if total == 0:
        return _exact(mean, seeds * groups)
    freedom = total**2 / np.sum(variances**2 / np.array([seeds - 1, groups - 1]))
    error = math.sqrt(total)
    half = error * stats.t.ppf(1 - (1 - level) / comparisons / 2, freedom)
    p_value = min(1.0, comparisons * 2 * stats.t.sf(abs(mean) / error, freedom))
    return Difference(mean, mean - half, mean + half, float(p_value), seeds * groups)


def _of_values(values: np.ndarray, comparisons: int, level: float) -> Difference:
    mean, count = float(values.mean()), len(values)
    if count < 2:
        return Difference(mean, math.nan, math.nan, math.nan, count)
    if np.ptp(values) == 0:
        return _exact(mean, count)
    test = stats.ttest_1samp(values, 0.0)
    low, high = test.confidence_interval(1 - (1 - level) / comparisons)
    return Difference(
        mean, float(low), float(high), min(1.0, comparisons * float(test.pvalue)), count
    )


def _exact(mean: float, count: int) -> Difference:
    """Of values that do not vary at all, such as an arm beside itself."""
    return Difference(mean, mean, mean, 1.0 if mean == 0 else 0.0, count)

"""Which algorithm a row takes, from C, k and the range of its logits.

What counts is how many pairs of classes, or nodes of a grid, each of them looks at. The factors
below say how many pairs a class or a node is worth; the benchmark of class scaling shows how far
the choice is from the best on the machine where it runs.

Only what runs over classes is worth compiling. This runs over rows, so it is in plain NumPy.
"""

from __future__ import annotations

import numpy as np

from mmkendall.functional.backends.flat import FLAT_RANGE
from mmkendall.functional.backends.numba_loops import dense, taps

NOT_POSSIBLE, NOT_FINITE = -2, -1
# The last is what the window takes where classes have very many near ones, unless the lines of
# nodes would take more memory than the rest of the row.
DENSE, WINDOW, GRID, LINES = range(4)
MAX_RANGE, MAX_RANGE_PER_CLASS = 4096.0, 2.0
# Two grids of this many nodes take 11 MB.
MAX_NODES = 1_400_000
# The share of the pairs less than 8 / k apart is about this over k times the range, if it is wide.
NEAR_SHARE = 39.0
# Worth in pairs of ``dense``: a pair of fractions, one that needs exponentials, a pair of the
# window, one that is near in both logits, a class of each algorithm, and a node of the grid.
FRACTION_PAIR, EXPONENTIAL_PAIR, NEAR_PAIR, LINE_PAIR = 1.8, 2.5, 3.5, 7.0
DENSE_CLASS, WINDOW_CLASS, LINE_CLASS, GRID_CLASS, NODE = 85.0, 170.0, 1100.0, 200.0, 27.0
LOGISTIC_CLASS = 170.0
# A pair of ``dense``, for an estimate of whether other threads are worth it.
SECONDS_PER_PAIR = 3e-10


def _count_near(pairs, scaled_range):
    """About how many of the pairs are less than 8 / k apart, where k times the range is given."""
    share = NEAR_SHARE / np.maximum(scaled_range, 1.0)
    return pairs * share / np.sqrt(1.0 + share * share)


@np.errstate(all='ignore')
def choose_algorithms(preds_S, preds_T, steepness, surrogate, forced):
    """The algorithm for each row, the best one or ``forced`` (-1: none), and an estimate of time.

    Returns the codes (N,) and the seconds.
    """
    num_rows, count = preds_S.shape
    is_single = preds_S.itemsize == 4
    pairs = count * (count - 1) / 2
    ends = preds_S.min(1), preds_T.min(1), preds_S.max(1), preds_T.max(1)
    ends = np.array(ends, np.float64)
    ranges = steepness * (ends[2:] - ends[:2])
    narrow, wider = np.minimum(*ranges), np.maximum(*ranges)
    costs = np.full((LINES, num_rows), np.inf)
    if surrogate == 'product':
        is_ratio = (narrow >= dense.LOWEST_RATIO) & (wider <= dense.HIGHEST_RATIO)
        pair = np.where(is_ratio, 1.0, EXPONENTIAL_PAIR)
        if is_single and count <= dense.AT_ONCE:
            is_fraction = (narrow >= dense.LOWEST_RATIO) & (wider <= dense.HIGHEST_POWERS)
            pair[is_fraction & ~is_ratio] = FRACTION_PAIR
        costs[DENSE] = pairs * pair + DENSE_CLASS * count
        near, near_T = _count_near(pairs, ranges)
        costs[WINDOW] = WINDOW_CLASS * count + NEAR_PAIR * (near + near_T / 2)
        if is_single:
            line = LINE_CLASS * count + LINE_PAIR * near * near_T / max(pairs, 1)
            is_line = (line < costs[WINDOW]) & (wider <= MAX_RANGE + MAX_RANGE_PER_CLASS * count)
            costs[WINDOW, is_line] = line[is_line]
            nodes = (ranges / taps.STEP + taps.TAPS).prod(0)
            can_grid = (narrow >= FLAT_RANGE) & (nodes <= MAX_NODES)
            costs[GRID, can_grid] = GRID_CLASS * count + NODE * nodes[can_grid]
    elif surrogate != 'logistic':
        costs[DENSE] = pairs * EXPONENTIAL_PAIR + DENSE_CLASS * count
        if surrogate == 'hard_teacher':
            costs[WINDOW] = WINDOW_CLASS * count + NEAR_PAIR * _count_near(pairs, ranges[0])
    elif forced < 0:  # One algorithm, which has no name to be forced by.
        costs[DENSE] = LOGISTIC_CLASS * count

    if forced >= 0:
        codes, work = np.where(costs[forced] < np.inf, forced, NOT_POSSIBLE), costs[forced].sum()
    else:
        codes, work = costs.argmin(0), costs.min(0).sum()
    if is_single and surrogate == 'product':
        codes[is_line & (codes == WINDOW)] = LINES
    finite = np.isfinite(ends)
    if not finite.all():
        codes[~finite.all(0)] = NOT_FINITE
    return codes, work * SECONDS_PER_PAIR

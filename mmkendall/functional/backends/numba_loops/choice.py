"""Which algorithm a row takes, from C, k and the range of its logits.

What counts is how many pairs of classes, or nodes of a grid, each of them looks at. The factors
below say how many pairs a class or a node is worth; the benchmark of class scaling shows how far
the choice is from the best on the machine where it runs.
"""

from __future__ import annotations

import math

import numpy as np

from mmkendall.functional.backends.flat import FLAT_RANGE
from mmkendall.functional.backends.numba_loops.basics import (
    DIFFKENDALL,
    PRODUCT,
    all_finite,
    compiled,
    entry,
    fill,
    logit_ranges,
)
from mmkendall.functional.backends.numba_loops.dense import (
    AT_ONCE,
    HIGHEST_POWERS,
    HIGHEST_RATIO,
    LOWEST_RATIO,
)
from mmkendall.functional.backends.numba_loops.taps import count_nodes

NOT_POSSIBLE, NOT_FINITE = -2, -1
# The last is what the window takes where a class has more than MAX_NEAR near ones, unless the
# lines of nodes would take more memory than the rest of the row.
DENSE, WINDOW, GRID, LINES = range(4)
MAX_NEAR, MAX_RANGE, MAX_RANGE_PER_CLASS = 150, 4096.0, 2.0
# Two grids of this many nodes take 11 MB.
MAX_NODES = 1_400_000
# The share of the pairs less than 8 / k apart is about this over k times the range, if it is wide.
NEAR_SHARE = 39.0
# Worth in pairs of ``dense``: a pair of fractions, one that needs exponentials, a pair of the
# window, a class of each algorithm, and a node of the grid.
FRACTION_PAIR, EXPONENTIAL_PAIR, NEAR_PAIR = 1.5, 2.5, 5.0
DENSE_CLASS, WINDOW_CLASS, GRID_CLASS, NODE = 60.0, 150.0, 120.0, 25.0
# A pair of ``dense``, for an estimate of whether other threads are worth it.
SECONDS_PER_PAIR = 3e-10


@compiled
def _count_near(pairs, scaled_range):
    """About how many of the pairs are less than 8 / k apart, where k times the range is given."""
    share = NEAR_SHARE / max(scaled_range, 1.0)
    return pairs * share / math.sqrt(1.0 + share * share)


@entry
def choose_algorithms(preds_S, preds_T, steepness, surrogate, forced):
    """The algorithm for each row, the best one or ``forced`` (-1: none), and an estimate of time.

    Returns the codes (N,), the lowest and the highest of them, and the seconds.
    """
    num_rows, count = preds_S.shape
    is_single = preds_S.itemsize == 4
    pairs = count * (count - 1) / 2
    work = 0.0
    codes = np.empty(num_rows, np.int8)
    lowest, highest = LINES, NOT_POSSIBLE
    costs = np.empty(LINES)
    for row in range(num_rows):
        s, t = preds_S[row], preds_T[row]
        if not (all_finite(s) and all_finite(t)):
            codes[row] = NOT_FINITE
            lowest, highest = min(lowest, NOT_FINITE), max(highest, NOT_FINITE)
            continue
        min_S, max_S, min_T, max_T = logit_ranges(s, t)
        range_S, range_T = steepness * (max_S - min_S), steepness * (max_T - min_T)
        narrow, wider = min(range_S, range_T), max(range_S, range_T)
        fill(costs, np.inf)
        pair = EXPONENTIAL_PAIR
        if surrogate == PRODUCT and narrow >= LOWEST_RATIO:
            if wider <= HIGHEST_RATIO:
                pair = 1.0
            elif is_single and wider <= HIGHEST_POWERS and count <= AT_ONCE:
                pair = FRACTION_PAIR
        costs[DENSE] = pairs * pair + DENSE_CLASS * count
        is_line = False
        if surrogate != DIFFKENDALL:
            near, near_T = _count_near(pairs, range_S), _count_near(pairs, range_T)
            if surrogate == PRODUCT:
                if is_single and near > MAX_NEAR * count:
                    is_line = wider <= MAX_RANGE + MAX_RANGE_PER_CLASS * count
                # Lines of nodes, and the pairs that are near in both.
                near = MAX_NEAR * count + near * near_T / pairs if is_line else near + near_T / 2
            costs[WINDOW] = WINDOW_CLASS * count + NEAR_PAIR * near
            # Before anything is rounded to an integer: a range may be as large as 1e38.
            can_grid = is_single and narrow >= FLAT_RANGE and range_S * range_T <= MAX_NODES
            if surrogate == PRODUCT and can_grid:
                nodes = count_nodes(range_T) * count_nodes(range_S)
                if nodes <= MAX_NODES:
                    costs[GRID] = GRID_CLASS * count + NODE * nodes

        if forced >= 0:
            codes[row] = forced if costs[forced] < np.inf else NOT_POSSIBLE
        else:
            codes[row] = np.argmin(costs)
        work += costs[max(codes[row], 0)]
        if codes[row] == WINDOW and is_line:
            codes[row] = LINES
        lowest, highest = min(lowest, codes[row]), max(highest, codes[row])
    return codes, lowest, highest, work * SECONDS_PER_PAIR

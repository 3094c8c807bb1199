"""Which algorithm a row takes, from C, k and the range of its logits.

What counts is how many pairs of classes, or nodes of a grid, each of them looks at. The factors
below say how many pairs a class or a node is worth; the benchmark of class scaling shows how far
the choice is from the best on the machine where it runs.

Plain Python: what is done once a row is not worth compiling, and NumPy's own code, which a
training step has driven out of the cache, takes longer to come back than all of this.
"""

from __future__ import annotations

import itertools
import math

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
FRACTION_PAIR, EXPONENTIAL_PAIR, NEAR_PAIR, LINE_PAIR = 1.8, 2.5, 3.5, 9.0
DENSE_CLASS, WINDOW_CLASS, LINE_CLASS, GRID_CLASS, NODE = 85.0, 170.0, 860.0, 200.0, 27.0
LOGISTIC_CLASS = 170.0


def choose_algorithms(ranges, count, surrogate, is_single, forced):
    """The algorithm for each row, the best one or ``forced`` (-1: none), and what all cost.

    ``ranges`` are k times those of the student's rows and of the teacher's, ``count`` the classes.
    Returns the codes (N,) and the cost in pairs of ``dense``.
    """
    options = count, surrogate, is_single, forced
    num_rows = len(ranges[0])
    if all(math.isfinite(sum(own)) for own in ranges):
        # What the narrowest and the widest rows take suits those in between.
        extremes = itertools.product(*({min(own), max(own)} for own in ranges))
        found = [_best(*pair, *options) for pair in extremes]
        if len({code for code, _ in found}) == 1:
            cost = sum(cost for _, cost in found) / len(found)
            return [found[0][0]] * num_rows, num_rows * cost
    found = [_best(*pair, *options) for pair in zip(*ranges, strict=True)]
    return [code for code, _ in found], sum(cost for _, cost in found)


def _best(range_S, range_T, count, surrogate, is_single, forced):
    """The code of a row's algorithm, and what that costs in pairs of ``dense``."""
    if not (range_S < math.inf and range_T < math.inf):
        return NOT_FINITE, 0.0
    costs = _costs(range_S, range_T, count, surrogate, is_single)
    if forced >= 0:
        ways = (WINDOW, LINES) if forced == WINDOW else (forced,)
        # The logistic surrogate has one algorithm, which has no name to be forced by.
        ways = () if surrogate == 'logistic' else ways
        costs = {code: cost for code, cost in costs.items() if code in ways}
    code = min(costs, key=costs.__getitem__, default=NOT_POSSIBLE)
    return code, costs.get(code, 0.0)


def _near(pairs, scaled_range):
    """About how many of the pairs are less than 8 / k apart, where k times the range is given."""
    share = NEAR_SHARE / max(scaled_range, 1.0)
    return pairs * share / math.sqrt(1.0 + share * share)


def _costs(range_S, range_T, count, surrogate, is_single):
    """What each algorithm that can take a row costs, by its code, in pairs of ``dense``.

    The ranges are k times those of the logits.
    """
    if surrogate == 'logistic':
        return {DENSE: LOGISTIC_CLASS * count}
    pairs = count * (count - 1) / 2
    is_product = surrogate == 'product'
    narrow, wide = (range_S, range_T) if range_S < range_T else (range_T, range_S)
    pair = EXPONENTIAL_PAIR
    if is_product and narrow >= dense.LOWEST_RATIO:
        if wide <= dense.HIGHEST_RATIO:
            pair = 1.0
        elif is_single and count <= dense.AT_ONCE and wide <= dense.HIGHEST_POWERS:
            pair = FRACTION_PAIR
    costs = {DENSE: pairs * pair + DENSE_CLASS * count}
    if surrogate == 'diffkendall':
        return costs
    # Next to the sign of the teacher's difference, only ties are near each other.
    near, near_T = _near(pairs, range_S), _near(pairs, range_T) if is_product else 0.0
    costs[WINDOW] = WINDOW_CLASS * count + NEAR_PAIR * (near + near_T / 2)
    if is_product and is_single:
        if wide <= MAX_RANGE + MAX_RANGE_PER_CLASS * count:
            costs[LINES] = LINE_CLASS * count + LINE_PAIR * near * near_T / max(pairs, 1)
        nodes = (range_S / taps.STEP + taps.TAPS) * (range_T / taps.STEP + taps.TAPS)
        if narrow >= FLAT_RANGE and nodes <= MAX_NODES:
            costs[GRID] = GRID_CLASS * count + NODE * nodes
    return costs

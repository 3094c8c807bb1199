"""Which algorithm a row takes: the fastest by an estimate from C, k and its logits' range."""

from __future__ import annotations

import numpy as np

from mmkendall.functional.backends.flat import SHARE_OF_OTHERS
from mmkendall.functional.backends.numba_loops.basics import (
    DIFFKENDALL,
    HARD_TEACHER,
    PRODUCT,
    all_finite,
    compiled,
    count_above,
    logit_ranges,
)
from mmkendall.functional.backends.numba_loops.basics import LANES as EIGHT
from mmkendall.functional.backends.numba_loops.dense import RATIO_RANGE
from mmkendall.functional.backends.numba_loops.sweep import EACH_CLASS, choose_strips
from mmkendall.functional.backends.numba_loops.taps import STEP, count_nodes
from mmkendall.functional.backends.numba_loops.window import MAX_CELLS, NEAR, count_near

NOT_POSSIBLE, NOT_FINITE = -2, -1
DENSE, LANES, WINDOW, SWEEP, GRID, FLAT = range(6)
NUM_ALGORITHMS = 6
# What the window takes where it can.
NARROW_WINDOW = 6
# Two grids of this many nodes take 11 MB.
MAX_NODES = 1_400_000
# Nodes and their counts along one axis take as much as 16 arrays of the classes at most.
MAX_LINE, MAX_LINE_PER_CLASS = 16_384, 8
# Closer together than this, float32 weights on a grid lose the differences between the logits.
MIN_RANGE = 0.5
# Exponents that are split off are int32. Eight rows at once fit into the second-level cache.
MAX_EXPONENT = 1e8
# For the fewest classes they gain a few microseconds, and dense depends on no other row.
MIN_LANES_CLASSES, MAX_LANES_CLASSES = 17, 2500
# It never is the fastest for fewer, and its estimate takes a while.
MIN_SWEEP_CLASSES = 256
# What a node costs beyond which its convolution is not a matrix product.
CONVOLVED_NODE = 7.0
# Fewer classes are as fast by pairs, and so need not be looked at for ties.
MIN_TIED_CLASSES = 1000
# The narrow window sums float32 one after the other, which loses 1e-6 for so many.
MAX_NEAR = 1000


@compiled
def choose_algorithms(preds_S, preds_T, steepness, surrogate, forced):
    """The fastest algorithm for each row, or ``forced`` (-1: none), and an estimate of the time.

    Returns the codes (N,), the lowest and the highest of them, and the seconds. The costs are
    nanoseconds measured on one core with 256-bit vectors; only their ratios matter.
    """
    num_rows, count = preds_S.shape
    is_single = preds_S.itemsize == 4
    wide = 1.0 if is_single else 2.5
    pairs = count * (count - 1) / 2
    seconds = 0.0
    codes = np.empty(num_rows, np.int8)
    lowest, highest = NARROW_WINDOW, NOT_POSSIBLE
    costs = np.empty(NUM_ALGORITHMS)
    for row in range(num_rows):
        s, t = preds_S[row], preds_T[row]
        if not (all_finite(s) and all_finite(t)):
            codes[row] = NOT_FINITE
            lowest, highest = min(lowest, NOT_FINITE), max(highest, NOT_FINITE)
            continue
        min_S, max_S, min_T, max_T = logit_ranges(s, t)
        range_S, range_T = steepness * (max_S - min_S), steepness * (max_T - min_T)
        narrow, wider = min(range_S, range_T), max(range_S, range_T)
        largest = steepness * max(max(-min_S, max_S), max(-min_T, max_T))
        near_S, near_T = count_near(pairs, range_S / wide), count_near(pairs, range_T / wide)
        above_S = above_T = count
        if count >= MIN_TIED_CLASSES or forced == FLAT:
            above_S = count_above(s, s.dtype.type(min_S))
            above_T = count_above(t, t.dtype.type(min_T))
        # Ties are near whatever the range is.
        tied_S, tied_T = (count - above_S) ** 2 / 2, (count - above_T) ** 2 / 2
        near_S, near_T = max(near_S, tied_S), max(near_T, tied_T)
        costs[:] = np.inf

        each_pair, each_class = 0.8, 57.0
        if surrogate == PRODUCT and wider <= RATIO_RANGE:
            each_pair, each_class = 0.31, 22.0
        costs[DENSE] = wide * pairs * each_pair + each_class * count
        is_narrow = False
        if surrogate != DIFFKENDALL:
            teacher = 0.7 * (tied_T if surrogate == HARD_TEACHER else near_T)
            costs[WINDOW] = 1500.0 + wide * (85.0 * count + 1.7 * near_S + teacher)
        if surrogate == PRODUCT and is_single and narrow >= MIN_RANGE:
            # Before anything is rounded to an integer: a logit may be as large as 1e38.
            if largest <= MAX_EXPONENT:
                if near_S <= MAX_NEAR * count and wider <= NEAR * MAX_CELLS * count:
                    is_narrow = True
                    costs[WINDOW] = 1000.0 + 24.0 * count + 0.6 * near_S + 0.17 * near_T
                if MIN_LANES_CLASSES <= count <= MAX_LANES_CLASSES or forced == LANES:
                    each_pair = 0.23 if wider <= RATIO_RANGE else 0.37
                    costs[LANES] = (each_pair * pairs + 4.0 * count) * EIGHT / min(num_rows, EIGHT)
                line = count_nodes(wider)
                is_short = line <= max(MAX_LINE, MAX_LINE_PER_CLASS * count)
                if is_short and (count >= MIN_SWEEP_CLASSES or forced == SWEEP):
                    strips = choose_strips(pairs, range_S, range_T)[1]
                    # Ties fill one strip of their logit.
                    strips += 0.2 * max(tied_S, tied_T)
                    costs[SWEEP] = 3000.0 + EACH_CLASS * count + strips
            if range_S * range_T <= MAX_NODES * STEP**2:
                height, width = count_nodes(range_T), count_nodes(range_S)
                if height * width <= MAX_NODES:
                    each_node = min((height + width) * 0.016, CONVOLVED_NODE)
                    costs[GRID] = 500.0 + 15.0 * count + height * width * each_node

        if surrogate == PRODUCT:
            is_flat = narrow < MIN_RANGE
        elif surrogate == HARD_TEACHER:
            is_flat = range_S < MIN_RANGE or range_T == 0.0
        else:
            is_flat = narrow == 0.0
        others = 0 if is_flat else min(above_S, above_T)
        if is_flat or others * SHARE_OF_OTHERS <= count:
            nodes = 1.0 if others or narrow == 0.0 else 7.0
            cells = min(wider, 1.0 * count)
            costs[FLAT] = 1.5e6 + nodes * (150.0 * count + 3000.0 * cells) + 6.0 * others * count
            costs[FLAT] *= wide

        if forced >= 0:
            codes[row] = forced if costs[forced] < np.inf else NOT_POSSIBLE
        else:
            codes[row] = np.argmin(costs)
        seconds += costs[max(codes[row], 0)] * 1e-9
        if codes[row] == WINDOW and is_narrow:
            codes[row] = NARROW_WINDOW
        lowest, highest = min(lowest, codes[row]), max(highest, codes[row])
    return codes, lowest, highest, seconds


@compiled
def mean_loss(losses, mean):
    """Writes the mean of ``losses`` (N,) into ``mean`` ()."""
    total = 0.0
    for loss in losses:
        total += np.float64(loss)
    mean[()] = total / losses.shape[0]

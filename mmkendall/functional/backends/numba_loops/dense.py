"""All pairs of classes: any input, O(C^2).

Several rows are taken at once. Their logits stand beside each other, class by class, so that the
loops over pairs are long even where the classes are few.
"""

from __future__ import annotations

import numpy as np

from mmkendall.functional.backends.numba_loops import pairs
from mmkendall.functional.backends.numba_loops.basics import (
    ROUND_32,
    all_finite,
    compiled,
    constants,
    entry,
    exp2,
    fill,
    logit_ranges,
    variant,
)

# Logits that are worked on at once: what belongs to them stays in the second-level cache.
AT_ONCE = 4096
# k times the range of the logits: up to the highest, products of four exp(2ks) stay inside
# float32; under the lowest, their differences lose digits.
LOWEST_RATIO, HIGHEST_RATIO = 0.5, 28.0

# The highest for which exponents are set apart, and beyond which power of two, in float32, tanh is
# +-1. Powers of two lie AT_ONCE behind their fractions: at a constant distance LLVM sees that they
# do not overlap.
HIGHEST_POWERS = 1e5
LOWEST_POWER, HIGHEST_POWER = (np.float32(ROUND_32 + power) for power in (-30, 30))


@compiled
def _fraction_and_power(x_i, x_j, m):
    """a = exp(2kx) of two classes over the second one's power of two."""
    power = min(max(x_i[m + AT_ONCE] + ROUND_32 - x_j[m + AT_ONCE], LOWEST_POWER), HIGHEST_POWER)
    bits = (np.float32(power).view(np.int32) << np.int32(23)) + np.float32(x_i[m]).view(np.int32)
    return np.int32(bits).view(np.float32), x_j[m]


EXPONENTIALS, RATIOS, FRACTIONS = range(3)
_add_exponentials = pairs.make_add(pairs.product)
_add_ratios = pairs.make_add(pairs.product_ratio)
_add_fractions = pairs.make_add(pairs.product_ratio, _fraction_and_power)


@compiled(forceinline=True)
def _add_products(s_i, t_i, s_j, t_j, size, way, order, numbers, changes):
    if way == EXPONENTIALS:
        _add_exponentials(s_i, t_i, s_j, t_j, size, way, order, numbers, changes)
    elif way == RATIOS:
        _add_ratios(s_i, t_i, s_j, t_j, size, way, order, numbers, changes)
    else:
        _add_fractions(s_i, t_i, s_j, t_j, size, way, order, numbers, changes)


near_pairs = pairs.make_near_pairs(None, _add_products)


@compiled
def _to_ratios(logits, count, middles, scale, way):
    """Puts exp(2k (x - middle of its row)) in the place of some rows' logits, class by class.

    ``FRACTIONS`` have their powers of two behind them.
    """
    step = middles.shape[0]
    for i in range(count):
        own = logits[i * step :]
        for row in range(step):
            exponent = (np.float64(own[row]) - middles[row]) * scale
            if way == FRACTIONS:
                own[row + AT_ONCE] = np.rint(exponent)
                exponent -= np.rint(exponent)
            own[row] = exp2(exponent)[1]


def _rows(preds_S, preds_T, steepness, rows, need_grad, need_value, weight, loss, grad):
    count = preds_S.shape[1]
    at_once = max(1, min(rows.shape[0], AT_ONCE // count))
    # There is room for powers of two behind the logits.
    logits = np.empty((2, AT_ONCE + max(AT_ONCE, at_once * count)), preds_S.dtype)
    sums = np.empty((3, max(at_once * count, 3 * pairs.BLOCK)), preds_S.dtype)
    of_rows = np.empty((3, at_once), preds_S.dtype)
    s, t, changes, zero_or_nan = logits[0], logits[1], sums[2, : 3 * pairs.BLOCK], of_rows[2]
    numbers = constants(preds_S, steepness)
    nothing, scale = numbers[0] - numbers[0], np.float64(numbers[2])
    num_pairs = count * (count - 1) / 2
    factor = -4.0 * steepness * weight / num_pairs
    total = 0.0
    for first in range(0, rows.shape[0], at_once):
        some = rows[first : first + at_once]
        step = some.shape[0]
        slope, values = sums[0, : step * count], sums[1, : step * count]
        middles_S, middles_T = of_rows[0, :step], of_rows[1, :step]
        narrow, wide = np.inf, 0.0
        for own in range(step):
            from_S, from_T, to_S, to_T = preds_S[some[own]], preds_T[some[own]], s[own:], t[own:]
            is_finite = all_finite(from_S) and all_finite(from_T)
            zero_or_nan[own] = 0.0 if is_finite else np.nan
            for i in range(count):
                to_S[i * step] = from_S[i] if is_finite else nothing
                to_T[i * step] = from_T[i] if is_finite else nothing
            middles_S[own] = middles_T[own] = 0.0
            if is_finite:
                min_S, max_S, min_T, max_T = logit_ranges(from_S, from_T)
                middles_S[own], middles_T[own] = (min_S + max_S) / 2, (min_T + max_T) / 2
                narrow = min(narrow, max_S - min_S, max_T - min_T)
                wide = max(wide, max_S - min_S, max_T - min_T)
        way = EXPONENTIALS
        if steepness * narrow >= LOWEST_RATIO:
            if steepness * wide <= HIGHEST_RATIO:
                way = RATIOS
            elif s.itemsize == 4 and count <= AT_ONCE and steepness * wide <= HIGHEST_POWERS:
                way = FRACTIONS
        if way != EXPONENTIALS:
            _to_ratios(s, count, middles_S, scale, way)
            _to_ratios(t, count, middles_T, scale, way)
        fill(slope, nothing)
        fill(values, nothing)
        near_pairs(s, t, np.inf, nothing, step, way, numbers, changes, slope, values)
        for own in range(step):
            own_slope, own_values, value = slope[own:], values[own:], 0.0
            for i in range(count):
                value += own_values[i * step]
            loss[some[own]] = zero_or_nan[own] + (1.0 - value / num_pairs if need_value else 0.0)
            total += loss[some[own]]
            if need_grad:
                out = grad[some[own]]
                for i in range(count):
                    out[i] = factor * own_slope[i * step] + zero_or_nan[own]
    return total


product_rows = entry(variant(_rows, 'product_rows'))
# Their tanh are no ratios of what belongs to one class.
_other = {'LOWEST_RATIO': np.inf}
_other['near_pairs'] = pairs.make_near_pairs(pairs.hard_teacher)
hard_teacher_rows = entry(variant(_rows, 'hard_teacher_rows', **_other))
_other['near_pairs'] = pairs.make_near_pairs(pairs.diffkendall)
diffkendall_rows = entry(variant(_rows, 'diffkendall_rows', **_other))

"""All pairs of classes: any input, O(C^2).

Several rows are taken at once. Their logits stand beside each other, class by class, so that the
loops over pairs are long even where the classes are few.
"""

from __future__ import annotations

import numpy as np

from mmkendall.functional.backends.numba_loops import pairs
from mmkendall.functional.backends.numba_loops.basics import (
    compiled,
    constants,
    copy,
    entry,
    exp2,
    fill,
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
LOWEST_POWER, HIGHEST_POWER = (np.int32(power) for power in (-30, 30))


@compiled
def _integer(bits):
    """The integer of the same bits as a float32."""
    return np.float32(bits).view(np.int32)


@compiled
def _fraction_and_power(x_i, x_j, m):
    """a = exp(2kx) of two classes over the second one's power of two."""
    power = _integer(x_i[m + AT_ONCE]) - _integer(x_j[m + AT_ONCE])
    power = min(max(np.int32(power), LOWEST_POWER), HIGHEST_POWER)
    bits = (power << np.int32(23)) + _integer(x_i[m])
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
def _gather(preds, rows, logits, lows, highs, poison):
    """Puts rows beside each other, class by class, and finds the ends of each.

    ``poison`` becomes NaN for a row that is not finite, and stays what it is for others.
    """
    step, count = rows.shape[0], preds.shape[1]
    for own in range(step):
        row, to = preds[rows[own]], logits[own:]
        for i in range(count):
            to[i * step] = row[i]
    copy(logits, lows)
    copy(logits, highs)
    infinite, nan = poison.dtype.type(np.inf), poison.dtype.type(np.nan)
    for i in range(count):
        of_class = logits[i * step :]
        for own in range(step):
            lows[own], highs[own] = min(lows[own], of_class[own]), max(highs[own], of_class[own])
            # A comparison: some versions of LLVM take 0 x for 0, whatever x is.
            poison[own] = poison[own] if abs(of_class[own]) < infinite else nan


@compiled
def _to_ratios(logits, count, lows, highs, scale, way):
    """Puts exp(2k (x - middle of its row)) in the place of some rows' logits, class by class.

    ``FRACTIONS`` have their powers of two behind them, as integers.
    """
    step = lows.shape[0]
    for i in range(count):
        own = logits[i * step :]
        for row in range(step):
            middle = (np.float64(lows[row]) + np.float64(highs[row])) / 2
            exponent = (np.float64(own[row]) - middle) * scale
            if way == FRACTIONS:
                own[row + AT_ONCE] = np.int32(np.rint(exponent)).view(np.float32)
                exponent -= np.rint(exponent)
            own[row] = exp2(exponent)[1]


def _rows(preds_S, preds_T, steepness, rows, need_grad, need_value, weight, loss, grad):
    count = preds_S.shape[1]
    at_once = max(1, min(rows.shape[0], AT_ONCE // count))
    # There is room for powers of two behind the logits.
    logits = np.empty((2, AT_ONCE + max(AT_ONCE, at_once * count)), preds_S.dtype)
    sums = np.empty((3, max(at_once * count, 3 * pairs.BLOCK)), preds_S.dtype)
    of_rows, agreements = np.empty((5, at_once), preds_S.dtype), np.empty(at_once, np.float64)
    s, t, changes = logits[0], logits[1], sums[2, : 3 * pairs.BLOCK]
    numbers = constants(preds_S, steepness)
    nothing, scale = numbers[0] - numbers[0], np.float64(numbers[2])
    num_pairs = count * (count - 1) / 2
    factor = -4.0 * steepness * weight / num_pairs
    total = 0.0
    for first in range(0, rows.shape[0], at_once):
        some = rows[first : first + at_once]
        step = some.shape[0]
        slope, values = sums[0, : step * count], sums[1, : step * count]
        low_S, high_S = of_rows[0, :step], of_rows[1, :step]
        low_T, high_T, poison = of_rows[2, :step], of_rows[3, :step], of_rows[4, :step]
        fill(poison, nothing)
        _gather(preds_S, some, s, low_S, high_S, poison)
        _gather(preds_T, some, t, low_T, high_T, poison)
        narrow, wide = np.inf, 0.0
        for own in range(step):
            if poison[own] == nothing:
                range_S = np.float64(high_S[own]) - np.float64(low_S[own])
                range_T = np.float64(high_T[own]) - np.float64(low_T[own])
                narrow, wide = min(narrow, range_S, range_T), max(wide, range_S, range_T)
        way = EXPONENTIALS
        if steepness * narrow >= LOWEST_RATIO:
            if steepness * wide <= HIGHEST_RATIO:
                way = RATIOS
            elif s.itemsize == 4 and count <= AT_ONCE and steepness * wide <= HIGHEST_POWERS:
                way = FRACTIONS
        if way != EXPONENTIALS:
            _to_ratios(s, count, low_S, high_S, scale, way)
            _to_ratios(t, count, low_T, high_T, scale, way)
        fill(slope, nothing)
        fill(values, nothing)
        near_pairs(s, t, np.inf, nothing, step, way, numbers, changes, slope, values)
        fill(agreements, 0.0)
        for i in range(count):
            of_class = values[i * step :]
            for own in range(step):
                agreements[own] += of_class[own]
        for own in range(step):
            value = 1.0 - agreements[own] / num_pairs if need_value else 0.0
            loss[some[own]] = poison[own] + value
            total += loss[some[own]]
            if need_grad:
                own_slope, out = slope[own:], grad[some[own]]
                for i in range(count):
                    out[i] = factor * own_slope[i * step] + poison[own]
    return total


product_rows = entry(variant(_rows, 'product_rows'))
# Their tanh are no ratios of what belongs to one class.
_other = {'LOWEST_RATIO': np.inf}
_other['near_pairs'] = pairs.make_near_pairs(pairs.hard_teacher)
hard_teacher_rows = entry(variant(_rows, 'hard_teacher_rows', **_other))
_other['near_pairs'] = pairs.make_near_pairs(pairs.diffkendall)
diffkendall_rows = entry(variant(_rows, 'diffkendall_rows', **_other))

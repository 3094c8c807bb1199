"""All pairs of classes: any input, O(C^2).

Several rows are taken at once. Their logits stand beside each other, class by class, so that the
loops over pairs are long even where the classes are few.
"""

from __future__ import annotations

import math

import numpy as np

from mmkendall.functional.backends.numba_loops.basics import (
    FASTMATH,
    ROUND_32,
    all_finite,
    compiled,
    constants,
    entry,
    exp2,
    fill,
)
from mmkendall.functional.backends.numba_loops.pairs import (
    BLOCK,
    diffkendall,
    hard_teacher,
    make_near_pairs,
    product,
    product_ratio,
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


_products, _ratios = make_near_pairs(product), make_near_pairs(product_ratio)
_fractions = make_near_pairs(product_ratio, _fraction_and_power)


@compiled
def _to_ratios(logits, middles, scale, ratios, powers):
    """Writes exp(2k (x - middle of its row)) of some rows, class by class, into ``ratios``.

    Their powers of two go to ``powers`` unless that is empty.
    """
    step = middles.shape[0]
    for start in range(0, logits.shape[0], step):
        own, own_ratios, own_powers = logits[start:], ratios[start:], powers[start:]
        for row in range(step):
            exponent = (np.float64(own[row]) - middles[row]) * scale
            if powers.shape[0]:
                own_powers[row] = np.rint(exponent)
                exponent -= np.rint(exponent)
            own_ratios[row] = exp2(exponent)[1]


# Of finite rows: a minimum is vectorised only if there is no NaN to keep.
@compiled(fastmath=FASTMATH | {'nnan'})
def _middles(logits, middles):
    """The middle of each row's range; returns the narrowest and the widest range."""
    lows, highs = logits[: middles.shape[0]].copy(), logits[: middles.shape[0]].copy()
    for start in range(0, logits.shape[0], middles.shape[0]):
        own = logits[start : start + middles.shape[0]]
        for row in range(own.shape[0]):
            lows[row], highs[row] = min(lows[row], own[row]), max(highs[row], own[row])
    narrow, wide = np.inf, 0.0
    for row in range(middles.shape[0]):
        low, high = np.float64(lows[row]), np.float64(highs[row])
        middles[row] = (low + high) / 2
        narrow, wide = min(narrow, high - low), max(wide, high - low)
    return narrow, wide


@compiled
def _products_by_range(s, t, width, order, step, numbers, changes, slope, mirror, values):
    """By ratios of exponentials where they hold."""
    scale = np.float64(numbers[2])
    steepness = scale * math.log(2.0) / 2
    middles = np.empty((2, step), np.float64)
    narrow_S, wide_S = _middles(s, middles[0])
    narrow_T, wide_T = _middles(t, middles[1])
    narrow, wide = min(narrow_S, narrow_T), max(wide_S, wide_T)
    highest = HIGHEST_POWERS if s.itemsize == 4 and s.shape[0] <= AT_ONCE else HIGHEST_RATIO
    if steepness * narrow < LOWEST_RATIO or steepness * wide > highest:
        return _products(s, t, width, order, step, numbers, changes, slope, mirror, values)
    parts = np.empty((2, AT_ONCE + max(AT_ONCE, s.shape[0])), s.dtype)
    a_S, a_T = parts[0], parts[1]
    if steepness * wide <= HIGHEST_RATIO:
        _to_ratios(s, middles[0], scale, a_S, s[:0])
        _to_ratios(t, middles[1], scale, a_T, t[:0])
        return _ratios(a_S, a_T, width, order, step, numbers, changes, slope, mirror, values)
    _to_ratios(s, middles[0], scale, a_S, a_S[AT_ONCE:])
    _to_ratios(t, middles[1], scale, a_T, a_T[AT_ONCE:])
    return _fractions(a_S, a_T, width, order, step, numbers, changes, slope, mirror, values)


def _make_rows(all_pairs):
    @compiled
    def dense_rows(preds_S, preds_T, steepness, rows, need_grad, need_value, weight, loss, grad):
        count = preds_S.shape[1]
        at_once = max(1, min(rows.shape[0], AT_ONCE // count))
        table = np.empty((5, at_once * count), preds_S.dtype)
        changes = np.empty(3 * BLOCK, preds_S.dtype)
        zero_or_nan = np.empty(at_once, preds_S.dtype)
        numbers = constants(preds_S, steepness)
        nothing = numbers[0] - numbers[0]
        pairs = count * (count - 1) / 2
        factor = -4.0 * steepness * weight / pairs
        total = 0.0
        for first in range(0, rows.shape[0], at_once):
            some = rows[first : first + at_once]
            step = some.shape[0]
            used = step * count
            s, t, slope = table[0, :used], table[1, :used], table[2, :used]
            mirror, values = table[3, :used], table[4, :used]
            for own in range(step):
                from_S, from_T = preds_S[some[own]], preds_T[some[own]]
                to_S, to_T = s[own:], t[own:]
                is_finite = all_finite(from_S) and all_finite(from_T)
                zero_or_nan[own] = 0.0 if is_finite else np.nan
                for i in range(count):
                    to_S[i * step] = from_S[i] if is_finite else nothing
                    to_T[i * step] = from_T[i] if is_finite else nothing
            fill(slope, 0)
            fill(mirror, 0)
            fill(values, 0)
            all_pairs(s, t, np.inf, nothing, step, numbers, changes, slope, mirror, values)
            for own in range(step):
                row, value = some[own], 0.0
                for value_i in values[own::step]:
                    value += value_i
                loss[row] = zero_or_nan[own] + (1.0 - value / pairs if need_value else 0.0)
                total += loss[row]
                if need_grad:
                    out, own_slope, own_mirror = grad[row], slope[own:], mirror[own:]
                    for i in range(count):
                        slope_i = own_slope[i * step] - own_mirror[i * step]
                        out[i] = factor * slope_i + zero_or_nan[own]
        return total

    return dense_rows


_product_rows = _make_rows(_products_by_range)
_hard_teacher_rows = _make_rows(make_near_pairs(hard_teacher))
_diffkendall_rows = _make_rows(make_near_pairs(diffkendall))


@entry
def product_rows(*args):
    return _product_rows(*args)


@entry
def hard_teacher_rows(*args):
    return _hard_teacher_rows(*args)


@entry
def diffkendall_rows(*args):
    return _diffkendall_rows(*args)

"""All pairs of classes: any input, O(C^2).

Several rows are taken at once. Their logits stand beside each other, class by class, so that the
loops over pairs are long even where the classes are few.
"""

from __future__ import annotations

import math

import numpy as np

from mmkendall.functional.backends.numba_loops.basics import (
    FASTMATH,
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

_products, _ratios = make_near_pairs(product), make_near_pairs(product_ratio)


@compiled
def _to_ratios(logits, middles, scale):
    """Writes exp(2k (x - middle of its row)) over the logits of some rows, class by class."""
    for start in range(0, logits.shape[0], middles.shape[0]):
        own = logits[start : start + middles.shape[0]]
        for row in range(own.shape[0]):
            own[row] = exp2((np.float64(own[row]) - middles[row]) * scale)[1]


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
    """By ratios where they hold."""
    scale = np.float64(numbers[2])
    steepness = scale * math.log(2.0) / 2
    middles = np.empty((2, step), np.float64)
    narrow_S, wide_S = _middles(s, middles[0])
    narrow_T, wide_T = _middles(t, middles[1])
    narrow, wide = min(narrow_S, narrow_T), max(wide_S, wide_T)
    if steepness * narrow < LOWEST_RATIO or steepness * wide > HIGHEST_RATIO:
        return _products(s, t, width, order, step, numbers, changes, slope, mirror, values)
    _to_ratios(s, middles[0], scale)
    _to_ratios(t, middles[1], scale)
    return _ratios(s, t, width, order, step, numbers, changes, slope, mirror, values)


def _make_rows(all_pairs):
    @compiled
    def dense_rows(preds_S, preds_T, steepness, rows, need_grad, need_value, weight, loss, grad):
        count = preds_S.shape[1]
        at_once = max(1, min(rows.shape[0], AT_ONCE // count))
        table = np.empty((5, at_once * count), preds_S.dtype)
        changes = np.empty(3 * BLOCK, preds_S.dtype)
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
                for i in range(count):
                    to_S[i * step], to_T[i * step] = from_S[i], from_T[i]
            fill(slope, 0)
            fill(mirror, 0)
            fill(values, 0)
            all_pairs(s, t, np.inf, nothing, step, numbers, changes, slope, mirror, values)
            for own in range(step):
                row, value = some[own], 0.0
                for value_i in values[own::step]:
                    value += value_i
                loss[row] = 1.0 - value / pairs if need_value else 0.0
                total += loss[row]
                if need_grad:
                    out, own_slope, own_mirror = grad[row], slope[own:], mirror[own:]
                    for i in range(count):
                        out[i] = factor * (own_slope[i * step] - own_mirror[i * step])
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

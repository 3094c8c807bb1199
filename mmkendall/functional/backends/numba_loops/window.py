"""Only the pairs whose tanh is not yet +-1, after sorting; order counts for all others.

With o = +-1 by position after sorting, T S = o_t o_s + (T - o_t) o_s + T (S - o_s): a count of
inversions, and two sums over pairs that are near each other in one logit. The gradient needs the
last of them alone. Where a class has very many near ones, ``lines`` has a faster way to both.
"""

from __future__ import annotations

import numpy as np

from mmkendall.functional.backends.numba_loops import pairs
from mmkendall.functional.backends.numba_loops.basics import (
    compiled,
    constants,
    entry,
    fill,
    variant,
)
from mmkendall.functional.backends.numba_loops.lines import line_sums
from mmkendall.functional.backends.numba_loops.order import argsort, concordant_pairs, sort_both

# k times a difference beyond which tanh in float64 is +-1 to within 1e-17.
NEAR_DOUBLE = 20.0


near_pairs = pairs.make_near_pairs(pairs.product)
near_orders = pairs.make_near_orders(pairs.product)
# How far apart in the teacher's logits pairs can be whose T is not +-1, whatever k is.
WIDEST = np.inf


def _near_sums(s, t, ordered_t, ranks, steepness, numbers, need_value, changes, slope, values):
    """What the sum of T S has beside that of o_t o_s."""
    width = (pairs.NEAR if s.itemsize == 4 else NEAR_DOUBLE) / steepness
    near_pairs(s, t, width, numbers[0], 1, 0, numbers, changes, slope, values)
    value = 0.0
    if need_value:
        for i in range(values.shape[0]):
            value += values[i]
        value += near_orders(ordered_t, ranks, min(width, WIDEST), numbers)
    return value


sums, TIMES = compiled(_near_sums), 1


def _rows(preds_S, preds_T, steepness, rows, need_grad, need_value, weight, loss, grad):
    count = preds_S.shape[1]
    order, ranks = np.empty(count, np.int32), np.empty(count, np.int32)
    table = np.empty((6, max(count, 3 * pairs.BLOCK)), preds_S.dtype)
    s, t, ordered_t = table[0, :count], table[1, :count], table[2, :count]
    slope, values, changes = table[3, :count], table[4, :count], table[5, : 3 * pairs.BLOCK]
    numbers = constants(preds_S, steepness)
    nothing = numbers[0] - numbers[0]
    num_pairs = count * (count - 1) / 2
    factor = -4.0 * steepness * weight / num_pairs
    total = 0.0
    for row in rows:
        sort_both(preds_S[row], preds_T[row], order, s, t)
        # A class is its rank in s from here on.
        argsort(t, ranks, ordered_t)
        fill(slope, nothing)
        fill(values, nothing)
        value = sums(
            *(s, t, ordered_t, ranks, steepness, numbers, need_value, changes, slope, values)
        )
        if need_grad:
            own_grad = grad[row]
            for i in range(count):
                own_grad[order[i]] = factor * slope[i]
        if need_value:
            value += TIMES * (2.0 * concordant_pairs(ranks) - num_pairs)
        loss[row] = 1.0 - value / num_pairs if need_value else 0.0
        total += loss[row]
    return total


product_rows = entry(variant(_rows, 'product_rows'))
# In float32, where very many are near each other. These sums have T S + o_t o_s.
line_rows = entry(variant(_rows, 'line_rows', sums=line_sums, TIMES=-1))
# Next to the sign of the teacher's difference, only ties are near each other.
_hard = {'near_pairs': pairs.make_near_pairs(pairs.hard_teacher), 'WIDEST': 1e-300}
_hard['near_orders'] = pairs.make_near_orders(pairs.hard_teacher)
_hard_sums = compiled(variant(_near_sums, 'hard_sums', **_hard))
hard_teacher_rows = entry(variant(_rows, 'hard_teacher_rows', sums=_hard_sums))

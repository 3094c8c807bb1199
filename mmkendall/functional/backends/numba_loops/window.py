"""Only the pairs whose tanh is not yet +-1, after sorting; order counts for all others.

With o = +-1 by position after sorting, T S = o_t o_s + (T - o_t) o_s + T (S - o_s): a count of
inversions, and two sums over pairs that are near each other in one logit. The gradient needs the
last of them alone. Where a class has very many near ones, ``lines`` has a faster way to both.
"""

from __future__ import annotations

import numpy as np

from mmkendall.functional.backends.numba_loops.basics import compiled, constants, entry, fill
from mmkendall.functional.backends.numba_loops.lines import line_sums
from mmkendall.functional.backends.numba_loops.order import argsort, concordant_pairs
from mmkendall.functional.backends.numba_loops.pairs import (
    BLOCK,
    NEAR,
    hard_teacher,
    make_near_orders,
    make_near_pairs,
    product,
)

# k times a difference beyond which tanh in float64 is +-1 to within 1e-17.
NEAR_DOUBLE = 20.0


def _make_sums(pair, is_hard):
    near_pairs, near_orders = make_near_pairs(pair), make_near_orders(pair)

    @compiled
    def sums(s, t, ranks, steepness, numbers, need_value, buffers):
        """What the sum of T S has beside that of o_t o_s, and how often it has that, 1 or -1."""
        changes, ordered_t, slope, mirror = buffers
        width = (NEAR if s.itemsize == 4 else NEAR_DOUBLE) / steepness
        value = near_pairs(s, t, width, numbers[0], 1, numbers, changes, slope, mirror, s[:0])
        if need_value:
            # Next to the sign of the teacher's difference, only ties are near each other.
            reach = 1e-300 if is_hard else width
            value += near_orders(ordered_t, ranks, reach, numbers)
        return value, 1

    return sums


@compiled
def _line_sums(s, t, ranks, steepness, numbers, need_value, buffers):
    changes, _, slope, mirror = buffers
    return line_sums(s, t, ranks, steepness, numbers, changes, slope, mirror), -1


def _make_rows(sums):
    @compiled
    def window_rows(preds_S, preds_T, steepness, rows, need_grad, need_value, weight, loss, grad):
        count = preds_S.shape[1]
        order, ranks = np.empty(count, np.int32), np.empty(count, np.int32)
        s, t = np.empty(count, preds_S.dtype), np.empty(count, preds_S.dtype)
        ordered_t, slope = np.empty(count, preds_S.dtype), np.empty(count, preds_S.dtype)
        mirror, changes = np.empty(count, preds_S.dtype), np.empty(3 * BLOCK, preds_S.dtype)
        numbers = constants(preds_S, steepness)
        pairs = count * (count - 1) / 2
        factor = -4.0 * steepness * weight / pairs
        total = 0.0
        for row in rows:
            own_T = preds_T[row]
            argsort(preds_S[row], order, s)
            for i in range(count):
                t[i] = own_T[order[i]]
            # A class is its rank in s from here on.
            argsort(t, ranks, ordered_t)
            fill(slope, 0)
            fill(mirror, 0)
            buffers = changes, ordered_t, slope, mirror
            value, times = sums(s, t, ranks, steepness, numbers, need_value, buffers)
            if need_grad:
                own_grad = grad[row]
                for i in range(count):
                    own_grad[order[i]] = factor * (slope[i] - mirror[i])
            if need_value:
                value += times * (2.0 * concordant_pairs(ranks) - pairs)
            loss[row] = 1.0 - value / pairs if need_value else 0.0
            total += loss[row]
        return total

    return window_rows


_product_rows, _line_rows = _make_rows(_make_sums(product, False)), _make_rows(_line_sums)
_hard_rows = _make_rows(_make_sums(hard_teacher, True))


@entry
def product_rows(*args):
    return _product_rows(*args)


@entry
def line_rows(*args):
    """``product_rows`` in float32, where very many are near each other."""
    return _line_rows(*args)


@entry
def hard_teacher_rows(*args):
    return _hard_rows(*args)

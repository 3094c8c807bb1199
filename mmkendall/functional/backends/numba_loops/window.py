"""Only the pairs whose tanh is not yet +-1, after sorting."""

from __future__ import annotations

import math

import numpy as np

from mmkendall.functional.backends.numba_loops.basics import (
    LANES,
    PRODUCT,
    compiled,
    constants,
    exp2,
    split_exponent,
)
from mmkendall.functional.backends.numba_loops.order import (
    argsort,
    bit_buffers,
    concordant_pairs,
    sort_buffers,
)
from mmkendall.functional.backends.numba_loops.vectors import (
    FARTHEST,
    orders_after,
    pairs_around,
)

# Classes whose neighbours at one distance are taken together.
BLOCK = 128


def _make_window(pair):
    @compiled
    def window(s, t, width, scale, one, limit, changes, slope, mirror):
        """The pairs less than ``width`` apart in ``s``, which ascends, and a few more.

        Returns the sum of ``agreement - order``, where ``order`` is what the agreement would be
        if the student's tanh were -1 for i < j. A quarter of each class's sum goes to ``slope``,
        less what goes to ``mirror``. Neighbours 1, 2, ... places apart are taken for a block of
        classes at once: long loops, however narrow the window.
        """
        count = s.shape[0]
        zero = one - one
        slope[:] = zero
        mirror[:] = zero
        total = 0.0
        end = 0
        for start in range(0, count, BLOCK):
            stop = min(start + BLOCK, count)
            end, places = _places(s, start, stop, end, width)
            for place in range(1, places + 1):
                size = min(stop, count - place) - start
                s_i, t_i = s[start : start + size], t[start : start + size]
                s_j, t_j = s[start + place :], t[start + place :]
                value_i = zero
                for m in range(size):
                    value, change = pair(t_i[m], s_i[m], t_j[m], s_j[m], scale, one, limit)
                    value_i += value
                    changes[m] = change
                slope_i, mirror_j = slope[start : start + size], mirror[start + place :]
                for m in range(size):
                    slope_i[m] += changes[m]
                for m in range(size):
                    mirror_j[m] += changes[m]
                total += value_i
        return total

    return window


@compiled
def _places(logits, start, stop, end, width):
    """How many places apart two of ``logits``, which ascend, can be and less than ``width``.

    For the first of the two between ``start`` and ``stop``; ``end`` goes from call to call.
    """
    places = 0
    for i in range(start, stop):
        end = max(end, i + 1)
        while end < logits.shape[0] and logits[end] - logits[i] < width:
            end += 1
        places = max(places, end - i - 1)
    return end, places


@compiled
def _window_pair_product(t_i, s_i, t_j, s_j, scale, one, limit):
    two = one + one
    q_t, _ = exp2(min(max(scale * (t_i - t_j), -limit), limit))
    q_s, e_s = exp2(max(scale * (s_i - s_j), -limit))
    sum_s = q_s + two
    inverse = one / ((q_t + two) * sum_s)
    common = q_t * inverse * e_s
    return two * common, common * ((q_t + two) * inverse)


@compiled
def _window_pair_hard(t_i, s_i, t_j, s_j, scale, one, limit):
    zero = one - one
    sign_t = one if t_i > t_j else (-one if t_i < t_j else zero)
    q_s, e_s = exp2(max(scale * (s_i - s_j), -limit))
    inverse = one / (q_s + one + one)
    common = sign_t * (e_s * inverse)
    return common + common, common * inverse


_window_product = _make_window(_window_pair_product)
_window_hard = _make_window(_window_pair_hard)


@compiled
def _teacher_window(t, ranks, width, scale, one, limit):
    """The sum over the pairs close in ``t``, which ascends, of (tanh + 1) * order of ranks."""
    count = t.shape[0]
    two = one + one
    total = 0.0
    end = 0
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        end, places = _places(t, start, stop, end, width)
        for place in range(1, places + 1):
            size = min(stop, count - place) - start
            t_i, rank_i = t[start : start + size], ranks[start : start + size]
            t_j, rank_j = t[start + place :], ranks[start + place :]
            value_i = one - one
            for m in range(size):
                q, e = exp2(max(scale * (t_i[m] - t_j[m]), -limit))
                order = one if rank_i[m] > rank_j[m] else -one
                value_i += order * (e / (q + two))
            total += two * value_i
    return total


@compiled
def _teacher_ties(t, ranks):
    """What ``_teacher_window`` is for a sign in place of tanh: only ties count."""
    total = 0.0
    for i in range(t.shape[0]):
        j = i + 1
        while j < t.shape[0] and t[j] == t[i]:
            total += 1.0 if ranks[i] > ranks[j] else -1.0
            j += 1
    return total


@compiled
def window_rows(preds_S, preds_T, steepness, surrogate, rows, need_grad, need_value, loss, grad):
    """Only the pairs whose tanh is not yet +-1, after sorting; order counts for the others.

    T S = o_t o_s + (T - o_t) o_s + T (S - o_s), with o = +-1 by position after sorting: a count of
    inversions and two sums near the diagonal. The gradient needs the last alone.
    """
    count = preds_S.shape[1]
    buffers = sort_buffers(count)
    words, words_before, groups_before = bit_buffers(count)
    order = np.empty(count, np.int32)
    rank_S = np.empty(count, np.int32)
    ranks = np.empty(count, np.int32)
    s = np.empty(count, preds_S.dtype)
    t = np.empty(count, preds_S.dtype)
    changes = np.empty(BLOCK, preds_S.dtype)
    slope = np.empty(count, preds_S.dtype)
    mirror = np.empty(count, preds_S.dtype)
    one, limit, scale = constants(preds_S, 2.0 * steepness / math.log(2.0))
    pairs = count * (count - 1) / 2
    factor = -4.0 * steepness / pairs
    # tanh is 1 to within the dtype beyond this.
    width = (9.0 if preds_S.itemsize == 4 else 20.0) / steepness
    for row in rows:
        argsort(preds_S[row], order, preds_S.itemsize, buffers)
        for i in range(count):
            s[i] = preds_S[row, order[i]]
            t[i] = preds_T[row, order[i]]
            rank_S[order[i]] = i
        if surrogate == PRODUCT:
            value = _window_product(s, t, width, scale, one, limit, changes, slope, mirror)
        else:
            value = _window_hard(s, t, width, scale, one, limit, changes, slope, mirror)
        if need_grad:
            for i in range(count):
                grad[row, order[i]] = factor * (slope[i] - mirror[i])
        if not need_value:
            loss[row] = 0.0
            continue
        argsort(preds_T[row], order, preds_S.itemsize, buffers)
        for i in range(count):
            t[i] = preds_T[row, order[i]]
            ranks[i] = rank_S[order[i]]
        concordant = concordant_pairs(ranks, words, words_before, groups_before)
        value += 2.0 * concordant - pairs
        if surrogate == PRODUCT:
            value += _teacher_window(t, ranks, width, scale, one, limit)
        else:
            value += _teacher_ties(t, ranks)
        loss[row] = 1.0 - value / pairs


@compiled
def _around(logits, i, begin, end, width):
    """Between which places the classes are that are near any of ``i`` to ``i + LANES``.

    ``logits`` ascend; ``begin`` and ``end`` go from call to call.
    """
    count = logits.shape[0]
    last = min(i + LANES, count) - 1
    while logits[i] - logits[begin] >= width:
        begin += 1
    end = max(end, i + 1)
    while end < count and logits[end] - logits[last] < width:
        end += 1
    return begin, end


@compiled
def narrow_window_rows(
    preds_S, preds_T, steepness, surrogate, rows, need_grad, need_value, loss, grad
):
    """``window_rows`` for ``product`` in float32 with k times |logit| < 1e8, in vectors."""
    count = preds_S.shape[1]
    buffers = sort_buffers(count)
    words, words_before, groups_before = bit_buffers(count)
    order, ranks_S = np.empty(count, np.int32), np.empty(count, np.int32)
    s, t = np.empty(count, np.float32), np.empty(count, np.float32)
    # A vector's worth of room on either side, for classes that are far from all others.
    inside = slice(LANES, LANES + count)
    room = count + 3 * LANES
    powers_S, parts_S = np.empty(room, np.int32), np.ones(room, np.float32)
    powers_T, parts_T = np.zeros(room, np.int32), np.ones(room, np.float32)
    ranks, slopes = np.zeros(room, np.int32), np.empty(room, np.float32)
    totals = np.empty(LANES, np.float32)
    pairs = count * (count - 1) / 2
    factor = np.float32(-4.0 * steepness / pairs)
    scale = 2.0 * steepness / math.log(2.0)
    width = np.float32(9.0 / steepness)
    for row in rows:
        argsort(preds_S[row], order, 4, buffers)
        for i in range(count):
            s[i] = preds_S[row, order[i]]
            t[i] = preds_T[row, order[i]]
            ranks_S[order[i]] = i
        split_exponent(s, scale, powers_S[inside], parts_S[inside])
        split_exponent(t, scale, powers_T[inside], parts_T[inside])
        powers_S[:LANES] = powers_S[LANES] - 2 * FARTHEST
        for n in range(LANES + count, room):
            powers_S[n] = powers_S[n - 1] + 2 * FARTHEST
        value = 0.0
        begin = end = 0
        for i in range(0, count, LANES):
            begin, end = _around(s, i, begin, end, width)
            totals[:] = np.float32(0)
            down, up = i + LANES - 1 - begin, end - i - 1
            pairs_around(powers_T, parts_T, powers_S, parts_S, slopes, totals, LANES + i, down, up)
            value += 2.0 * totals.sum()
        if need_grad:
            for i in range(count):
                grad[row, order[i]] = factor * slopes[LANES + i]
        if not need_value:
            loss[row] = 0.0
            continue
        argsort(preds_T[row], order, 4, buffers)
        for i in range(count):
            t[i] = preds_T[row, order[i]]
            ranks[LANES + i] = ranks_S[order[i]]
        value += 2.0 * concordant_pairs(ranks[inside], words, words_before, groups_before) - pairs
        split_exponent(t, scale, powers_T[inside], parts_T[inside])
        for n in range(LANES + count, room):
            powers_T[n] = powers_T[n - 1] + 2 * FARTHEST
        begin = end = 0
        for i in range(0, count, LANES):
            begin, end = _around(t, i, begin, end, width)
            totals[:] = np.float32(0)
            orders_after(powers_T, parts_T, ranks, totals, LANES + i, end - i - 1)
            value += 2.0 * totals.sum()
        loss[row] = 1.0 - value / pairs

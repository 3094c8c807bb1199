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
    logit_ranges,
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
# k times a difference beyond which tanh is +-1 to within 3e-7.
NEAR = 8.0
# For each class; more take longer than what they save.
MAX_CELLS = 4
# The share of the pairs less than 8 / k apart is about this over k times the range, if it is wide.
NEAR_SHARE = 39.0


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
def window_rows(
    preds_S, preds_T, steepness, surrogate, rows, need_grad, need_value, weight, loss, grad
):
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
    factor = -4.0 * steepness * weight / pairs
    # tanh is 1 to within the dtype beyond this.
    width = (NEAR if preds_S.itemsize == 4 else 20.0) / steepness
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
def count_near(pairs, scaled_range):
    """About how many of the pairs are less than 8 / k apart, where k times the range is given."""
    share = NEAR_SHARE / max(scaled_range, 1.0)
    return pairs * share / math.sqrt(1.0 + share * share)


@compiled
def cells_for(logit_range, steepness, count):
    """How many cells a range takes, and how many of them are 8 / k wide.

    Six, or fewer where six would make more than ``MAX_CELLS`` for each class.
    """
    widths = logit_range * steepness / NEAR
    parts = min(6, max(1, int(MAX_CELLS * count / max(widths, 1.0))))
    # One more for what float32 rounds up.
    return int(widths * parts) + 2, parts


@compiled
def _fill_cells(logits, lowest, scale, cells, starts):
    """The cell of each class into ``cells``, and the classes in the cells before each."""
    for i in range(logits.shape[0]):
        cells[i] = np.int32((logits[i] - lowest) * scale)
    starts[:] = 0
    for cell in cells:
        starts[cell + 1] += 1
    for n in range(1, starts.shape[0]):
        starts[n] += starts[n - 1]


@compiled
def _reaches(cells, ends, parts, before, after):
    """For eight classes at a time, how many places away one of those may be that are near.

    ``cells`` ascend, with a whole block at the end; those from ``parts`` cells before to ``parts``
    cells after are near. The first of ``ends`` is that of the cell just before all those of the
    first cell.
    """
    last = ends[2 * parts + 1 :]
    for block in range(before.shape[0]):
        down = up = np.int32(0)
        for lane in range(LANES):
            place = np.int32(block * LANES + lane)
            # Unsigned, so that no index is asked whether it counts from the end.
            cell = np.uint64(cells[place])
            down = max(down, place - ends[cell])
            up = max(up, last[cell] - place)
        before[block], after[block] = down, up - 1


@compiled
def narrow_window_rows(
    preds_S, preds_T, steepness, surrogate, rows, need_grad, need_value, weight, loss, grad
):
    """``window_rows`` for ``product`` in float32 with k times |logit| < 1e8, in vectors.

    The classes are ordered by cells alone: any order will do for o among those that are near.
    """
    count = preds_S.shape[1]
    cells, ordered_cells = np.empty(count, np.int32), np.empty(count + LANES, np.int32)
    ranks_S, ordered = np.empty(count, np.int32), np.empty(count, np.float32)
    blocks = (count + LANES - 1) // LANES
    before, after = np.empty(blocks, np.int64), np.empty(blocks, np.int64)
    words, words_before, groups_before = bit_buffers(count)
    # A vector's worth of room on either side, for classes that are far from all others.
    inside = slice(LANES, LANES + count)
    room = count + 3 * LANES
    powers_S, parts_S = np.empty(room, np.int32), np.ones(room, np.float32)
    powers_T, parts_T = np.zeros(room, np.int32), np.ones(room, np.float32)
    other = np.empty(count, np.float32)
    ranks, slopes = np.zeros(room, np.int32), np.empty(room, np.float32)
    totals = np.empty(LANES, np.float32)
    table = np.empty(0, np.int32)
    pairs = count * (count - 1) / 2
    factor = np.float32(-4.0 * steepness * weight / pairs)
    scale = 2.0 * steepness / math.log(2.0)
    for row in rows:
        s, t = preds_S[row], preds_T[row]
        min_S, max_S, min_T, max_T = logit_ranges(s, t)
        value = 0.0
        for axis in range(2 if need_value else 1):
            logits = s if axis == 0 else t
            lowest, highest = (min_S, max_S) if axis == 0 else (min_T, max_T)
            num_cells, parts = cells_for(highest - lowest, steepness, count)
            size = num_cells + 2 * parts + 2
            if table.shape[0] < size:
                table = np.empty(size, np.int32)
            ends = table[parts + 1 : size]
            table[: parts + 1] = 0
            _fill_cells(
                logits, np.float32(lowest), np.float32(steepness * parts / NEAR), cells, ends
            )
            # An end is where the next class of its cell goes, until there is none.
            for i in range(count):
                place = ends[cells[i]]
                ends[cells[i]] = place + 1
                ordered[place], ordered_cells[place] = logits[i], cells[i]
                if axis == 0:
                    ranks_S[i], other[place] = place, t[i]
                else:
                    ranks[LANES + place] = ranks_S[i]
            ordered_cells[count:] = ordered_cells[count - 1]
            _reaches(ordered_cells, table[:size], parts, before, after)

            powers, exps = (powers_S, parts_S) if axis == 0 else (powers_T, parts_T)
            split_exponent(ordered, scale, powers[inside], exps[inside])
            powers[:LANES] = powers[LANES] - 2 * FARTHEST
            for n in range(LANES + count, room):
                powers[n] = powers[n - 1] + 2 * FARTHEST
            if axis == 0:
                powers_T[:] = 0
                split_exponent(other, scale, powers_T[inside], parts_T[inside])
            for block in range(blocks):
                first = LANES + block * LANES
                totals[:] = np.float32(0)
                if axis == 0:
                    pairs_around(
                        *(powers_T, parts_T, powers_S, parts_S, slopes, totals),
                        *(first, before[block], after[block]),
                    )
                else:
                    orders_after(powers_T, parts_T, ranks, totals, first, after[block])
                value += 2.0 * totals.sum()
            if axis == 0 and need_grad:
                for i in range(count):
                    grad[row, i] = factor * slopes[LANES + ranks_S[i]]
        if need_value:
            concordant = concordant_pairs(ranks[inside], words, words_before, groups_before)
            loss[row] = 1.0 - (value + 2.0 * concordant - pairs) / pairs
        else:
            loss[row] = 0.0

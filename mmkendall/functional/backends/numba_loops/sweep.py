"""Large k and many classes in time that grows with C: two sweeps and the pairs near in both.

With o = +-1 by position after sorting,

    T S = o_t S + o_s T - o_t o_s + (T - o_t) (S - o_s).

The first sum walks through the classes in the teacher's order and keeps, on nodes along s, the sum
of the tanh of all classes seen so far: each class reads its value and its derivative there, then
adds its own tanh. The second does the same with the roles exchanged, the third counts inversions,
and the last needs only the pairs that are near in t and in s, which lie in neighbouring bins.
"""

from __future__ import annotations

import math

import numpy as np

from mmkendall.functional.backends.numba_loops.basics import (
    LANES,
    compiled,
    constants,
    exp2,
    logit_ranges,
)
from mmkendall.functional.backends.numba_loops.order import (
    bit_buffers,
    concordant_pairs,
    sort_buffers,
    sort_keys,
    stable_sort,
)
from mmkendall.functional.backends.numba_loops.spline import (
    DEGREE,
    MARGIN,
    PIECES,
    PIECES_ABOVE,
    PIECES_SLOPE,
    PIECES_SLOPE_ABOVE,
    STEP,
    unsmoothing,
)
from mmkendall.functional.backends.numba_loops.vectors import gather_line

# tanh is +-1 to within 1e-8 at more than this many nodes.
REACH = 40
# Nodes of a block whose classes are counted together, as a power of two.
BLOCK_BITS = 6
# The last node before a class is this many nodes after the first of the 8 that it reads.
BEFORE = DEGREE // 2


def _tail_pieces():
    """(6, 2 REACH): polynomials of f for tanh less +-1 at the nodes around a class.

    The class lies f, in [0, 1), after node REACH - 1; tanh is filtered for a spline to read.
    """
    degree = 5  # 2e-8 of error
    nodes = np.arange(1 - REACH, REACH + 1)
    f = (1 - np.cos(np.pi * (np.arange(4 * degree) + 0.5) / (4 * degree))) / 2
    shifts = np.arange(-MARGIN, MARGIN + 1)
    samples = np.tanh(STEP * (nodes[:, None] - shifts - f[:, None, None]))
    tails = samples @ unsmoothing(1) - np.where(nodes > 0, 1, -1)
    return np.polynomial.polynomial.polyfit(f, tails, degree).astype(np.float32)


TAIL_PIECES = _tail_pieces()


@compiled
def line_size(logit_range, steepness):
    """Nodes along one axis."""
    return int(logit_range * steepness / STEP) + 2 * REACH + 2


@compiled
def _add_tails(nodes, f):
    p0, p1, p2 = TAIL_PIECES[0], TAIL_PIECES[1], TAIL_PIECES[2]
    p3, p4, p5 = TAIL_PIECES[3], TAIL_PIECES[4], TAIL_PIECES[5]
    for n in range(2 * REACH):
        nodes[n] += p0[n] + f * (p1[n] + f * (p2[n] + f * (p3[n] + f * (p4[n] + f * p5[n]))))


@compiled
def _sweep(order, logits, lowest, scale, need_value, need_slope, nodes, counts, before, slope):
    """The sum over the pairs of ``order`` of the tanh of the later class less the earlier.

    ``slope`` gets, for each class, the sum of 1 - tanh^2 over the classes before it less that over
    those after it. ``nodes`` hold the tanh less the +-1 on either side of the class's cell; those
    come from ``counts``, the classes in each cell, and ``before``, those in the blocks before.
    """
    nodes[:] = np.float32(0)
    counts[:] = np.float32(0)
    before[:] = 0
    per_step = np.float32(1 / STEP)
    two = np.float32(2)
    total = 0.0
    for position in range(order.shape[0]):
        i = order[position]
        x = (np.float64(logits[i]) - lowest) * scale
        cell = np.int64(x)
        f = np.float32(x - cell)
        cell += REACH
        first = cell - BEFORE
        if need_value:
            block = first >> BLOCK_BITS
            below = np.float32(0)
            same_block = counts[block << BLOCK_BITS : first]
            for n in range(same_block.shape[0]):
                below += same_block[n]
            near = gather_line(nodes, first, f, PIECES)
            near += two * gather_line(counts, first, f, PIECES_ABOVE)
            total += near + 2.0 * (before[block] + below) - position
            later = before[(cell >> BLOCK_BITS) + 1 :]
            for n in range(later.shape[0]):
                later[n] += np.int32(1)
        if need_slope:
            near = gather_line(nodes, first, f, PIECES_SLOPE)
            near += two * gather_line(counts, first, f, PIECES_SLOPE_ABOVE)
            # 1 - tanh^2 of the class and itself is 1, and is taken off again below.
            slope[i] = two * per_step * near + np.float32(1)
        _add_tails(nodes[cell + 1 - REACH : cell + 1 + REACH], f)
        counts[cell] += np.float32(1)
    if need_slope:
        for i in range(order.shape[0]):
            x = (np.float64(logits[i]) - lowest) * scale
            cell = np.int64(x)
            f = np.float32(x - cell)
            first = cell + REACH - BEFORE
            near = gather_line(nodes, first, f, PIECES_SLOPE)
            near += two * gather_line(counts, first, f, PIECES_SLOPE_ABOVE)
            slope[i] -= per_step * near
    return total


@compiled
def _near_pairs(t_i, s_i, rank_T, rank_S, t, s, ranks_T, ranks_S, scale, one, limit, slope):
    """A quarter of the sum of (T - o_t)(S - o_s), and an eighth of that of (T - o_t)(1 - S^2)."""
    value = one - one
    slope_i = one - one
    for j in range(t.shape[0]):
        # T - o = -2 o e / (1 + e) with e = exp(-2k |dt|).
        _, e_t = exp2(max(-scale * abs(t_i - t[j]), -limit))
        _, e_s = exp2(max(-scale * abs(s_i - s[j]), -limit))
        sum_t = one + e_t
        inverse = one / (sum_t * (one + e_s))
        both = e_t * e_s * inverse
        order_T = one if rank_T > ranks_T[j] else -one
        order_S = one if rank_S > ranks_S[j] else -one
        value += order_T * order_S * both
        change = -order_T * both * (sum_t * inverse)
        slope_i += change
        slope[j] -= change
    return value, slope_i


@compiled
def _near_in_both(t, s, ranks_T, ranks_S, starts, stops, width, scale, one, limit, slope):
    """Sums over the pairs of a bin and of neighbouring bins that are near in ``s``.

    A bin's classes ascend in ``s`` and are followed by ``LANES`` that are far from all others.
    More pairs than needed are taken, to fill the lanes: each is right, and none comes twice.
    """
    total = 0.0
    num_bins = starts.shape[0]
    for own in range(num_bins):
        end = starts[own]
        for i in range(starts[own], stops[own]):
            end = max(end, i + 1)
            while end < stops[own] and s[end] - s[i] < width:
                end += 1
            size = (end - i - 1 + LANES - 1) // LANES * LANES
            value, slope_i = _near_pairs(
                t[i],
                s[i],
                ranks_T[i],
                ranks_S[i],
                t[i + 1 : i + 1 + size],
                s[i + 1 : i + 1 + size],
                ranks_T[i + 1 : i + 1 + size],
                ranks_S[i + 1 : i + 1 + size],
                scale,
                one,
                limit,
                slope[i + 1 : i + 1 + size],
            )
            slope[i] += slope_i
            total += value
        if own + 1 == num_bins:
            continue
        begin = end = starts[own + 1]
        stop = stops[own + 1]
        for i in range(starts[own], stops[own]):
            while begin < stop and s[i] - s[begin] >= width:
                begin += 1
            end = max(end, begin)
            while end < stop and s[end] - s[i] < width:
                end += 1
            size = (end - begin + LANES - 1) // LANES * LANES
            value, slope_i = _near_pairs(
                t[i],
                s[i],
                ranks_T[i],
                ranks_S[i],
                t[begin : begin + size],
                s[begin : begin + size],
                ranks_T[begin : begin + size],
                ranks_S[begin : begin + size],
                scale,
                one,
                limit,
                slope[begin : begin + size],
            )
            slope[i] += slope_i
            total += value
    return total


@compiled
def _fill_bins(s, t, order_S, ranks_T, lowest, width, bins, starts, stops, place):
    """The classes by bin of ``t``, in each bin in the order of ``s``, with room between bins.

    ``bins`` are t, s and the two ranks; ``place`` (C,) is where each class has gone.
    """
    binned_t, binned_s, binned_ranks_T, binned_ranks_S = bins
    binned_t[:] = np.float32(0)
    binned_s[:] = np.float32(np.inf)
    stops[:] = 0
    for i in range(t.shape[0]):
        stops[int((np.float64(t[i]) - lowest) / width)] += 1
    position = 0
    for own in range(starts.shape[0]):
        starts[own] = position
        position += stops[own] + LANES
        stops[own] = starts[own]
    for rank in range(order_S.shape[0]):
        i = order_S[rank]
        own = int((np.float64(t[i]) - lowest) / width)
        to = stops[own]
        stops[own] = to + 1
        binned_t[to], binned_s[to] = t[i], s[i]
        binned_ranks_T[to], binned_ranks_S[to] = ranks_T[i], rank
        place[i] = to


@compiled
def sweep_rows(preds_S, preds_T, steepness, surrogate, rows, need_grad, need_value, loss, grad):
    """``product`` in float32, with as many nodes along each axis as memory allows."""
    count = preds_S.shape[1]
    keys, spare_keys, spare_order, histogram = sort_buffers(count)
    words, words_before, groups_before = bit_buffers(count)
    order_S, order_T = np.empty(count, np.int32), np.empty(count, np.int32)
    ranks_S, ranks_T = np.empty(count, np.int32), np.empty(count, np.int32)
    place = np.empty(count, np.int32)
    slope = np.empty(count, np.float32)
    one, limit, scale = constants(preds_S, 2.0 * steepness / math.log(2.0))
    nodes_per_logit = steepness / STEP
    pairs = count * (count - 1) / 2
    factor = np.float32(-steepness / pairs)
    width = 9.0 / steepness
    for row in rows:
        s, t = preds_S[row], preds_T[row]
        min_S, max_S, min_T, max_T = logit_ranges(s, t)
        for logits, order, ranks in ((s, order_S, ranks_S), (t, order_T, ranks_T)):
            sort_keys(logits, keys)
            for i in range(count):
                order[i] = i
            stable_sort(keys, order, 4, spare_keys, spare_order, histogram)
            for i in range(count):
                ranks[order[i]] = i

        size_S = line_size(max_S - min_S, steepness)
        size_T = line_size(max_T - min_T, steepness)
        size = max(size_S, size_T)
        nodes, counts = np.empty(size, np.float32), np.empty(size, np.float32)
        before = np.empty((size >> BLOCK_BITS) + 1, np.int32)
        value = _sweep(
            order_T,
            s,
            min_S,
            nodes_per_logit,
            need_value,
            need_grad,
            nodes[:size_S],
            counts[:size_S],
            before[: (size_S >> BLOCK_BITS) + 1],
            slope,
        )
        if need_value:
            value += _sweep(
                order_S,
                t,
                min_T,
                nodes_per_logit,
                True,
                False,
                nodes[:size_T],
                counts[:size_T],
                before[: (size_T >> BLOCK_BITS) + 1],
                slope,
            )
            for i in range(count):
                spare_order[i] = ranks_S[order_T[i]]
            concordant = concordant_pairs(spare_order, words, words_before, groups_before)
            value -= 2.0 * concordant - pairs

        num_bins = int((max_T - min_T) / width) + 1
        starts, stops = np.empty(num_bins, np.int64), np.empty(num_bins, np.int64)
        room = count + num_bins * LANES
        bins = (
            np.empty(room, np.float32),
            np.empty(room, np.float32),
            np.zeros(room, np.int32),
            np.zeros(room, np.int32),
        )
        _fill_bins(s, t, order_S, ranks_T, min_T, width, bins, starts, stops, place)
        near_slope = np.zeros(room, np.float32)
        near = _near_in_both(
            *bins, starts, stops, np.float32(width), scale, one, limit, near_slope
        )
        loss[row] = 1.0 - (value + 4.0 * near) / pairs if need_value else 0.0
        if need_grad:
            eight = np.float32(8)
            for i in range(count):
                grad[row, i] = factor * (slope[i] + eight * near_slope[place[i]])

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
    EXACT_ORDER,
    LANES,
    compiled,
    logit_ranges,
    split_exponent,
)
from mmkendall.functional.backends.numba_loops.order import (
    argsort,
    bit_buffers,
    concordant_pairs,
    sort_buffers,
)
from mmkendall.functional.backends.numba_loops.spline import (
    DEGREE,
    MARGIN,
    PIECES,
    PIECES_ABOVE,
    PIECES_SLOPE,
    PIECES_SLOPE_ABOVE,
    REACH,
    STEP,
    locate,
    unsmoothing,
)
from mmkendall.functional.backends.numba_loops.vectors import count_bits, gather_line, pairs_near

# The last node before a class is this many nodes after the first of the 8 that it reads.
BEFORE = DEGREE // 2
# k times a difference beyond which tanh is +-1 to within 3e-7. The window goes on to 9, where only
# float32 ends; what is left out here is that times 2 at most, of the few pairs near in the other.
NEAR = 8.0
# A power of two that no class comes near, whose difference from any is an int32.
FAR = 1_500_000_000


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


# In the order that is written: added to a node term by term, a tail would be rounded each time.
@compiled(fastmath=EXACT_ORDER)
def _add_tails(nodes, f):
    p0, p1, p2 = TAIL_PIECES[0], TAIL_PIECES[1], TAIL_PIECES[2]
    p3, p4, p5 = TAIL_PIECES[3], TAIL_PIECES[4], TAIL_PIECES[5]
    for n in range(2 * REACH):
        nodes[n] += p0[n] + f * (p1[n] + f * (p2[n] + f * (p3[n] + f * (p4[n] + f * p5[n]))))


@compiled
def _first_near(order, logits, lowest, scale, first_near):
    """For each class the rank of the first one that lies no cell before the nodes it reads."""
    rank = 0
    for i in order:
        node = locate(logits[i], lowest, scale)[0] - BEFORE
        while locate(logits[order[rank]], lowest, scale)[0] < node:
            rank += 1
        first_near[i] = rank


@compiled(fastmath=False)
def _seen_between(words, start, stop):
    """How many bits of ``words`` from ``start`` to before ``stop`` are set."""
    first, last = start >> 6, stop >> 6
    low = (np.uint64(1) << np.uint64(start & 63)) - np.uint64(1)
    high = (np.uint64(1) << np.uint64(stop & 63)) - np.uint64(1)
    if first == last:
        return count_bits(words[first] & high & ~low)
    seen = count_bits(words[first] & ~low) + count_bits(words[last] & high)
    for word in range(first + 1, last):
        seen += count_bits(words[word])
    return seen


@compiled(fastmath=EXACT_ORDER)
def _sweep(order, logits, ranks, lowest, scale, need_value, need_slope, buffers, slope):
    """Over the pairs of ``order``, tanh of the later class less the earlier, less its sign.

    ``ranks`` are those of ``logits``, which give the sign. ``slope`` gets, for each class, the sum
    of 1 - tanh^2 over the classes before it less that over those after it.

    ``nodes`` hold the tanh of the classes seen, less +-1 on either side of a class's cell, and
    ``counts`` the classes in each cell, whose +-1 is added for the nodes that a class reads.
    """
    nodes, counts, words, first_near = buffers
    nodes[:] = np.float32(0)
    counts[:] = np.float32(0)
    words[:] = np.uint64(0)
    per_step = np.float32(1 / STEP)
    two = np.float32(2)
    total = 0.0
    for i in order:
        cell, f = locate(logits[i], lowest, scale)
        cell += REACH
        first = cell - BEFORE
        if need_value:
            near = gather_line(nodes, first, f, PIECES)
            near += two * gather_line(counts, first, f, PIECES_ABOVE)
            # The nodes take all classes from ``first_near`` on to be above this one.
            rank = np.int64(ranks[i])
            total += near - 2 * _seen_between(words, np.int64(first_near[i]), rank)
            words[rank >> 6] |= np.uint64(1) << np.uint64(rank & 63)
        if need_slope:
            near = gather_line(nodes, first, f, PIECES_SLOPE)
            near += two * gather_line(counts, first, f, PIECES_SLOPE_ABOVE)
            # 1 - tanh^2 of the class and itself is 1, and is taken off again below.
            slope[i] = two * per_step * near + np.float32(1)
        _add_tails(nodes[cell + 1 - REACH : cell + 1 + REACH], f)
        counts[cell] += np.float32(1)
    if need_slope:
        for i in range(order.shape[0]):
            cell, f = locate(logits[i], lowest, scale)
            first = cell + REACH - BEFORE
            near = gather_line(nodes, first, f, PIECES_SLOPE)
            near += two * gather_line(counts, first, f, PIECES_SLOPE_ABOVE)
            slope[i] -= per_step * near
    return total


@compiled
def _near_in_both(s, bins, starts, stops, width, slopes):
    """A quarter of the sum of (T - o_t)(S - o_s) over the pairs that are near in both logits.

    ``slopes`` gets an eighth of the sum of (T - o_t)(1 - S^2) of each class. Near means in the
    same bin or in neighbouring ones, and less than ``width`` apart in ``s``. A bin's classes
    ascend in ``s`` and are followed by ``LANES`` that are far from all others. More pairs than
    needed are taken, to fill the lanes: each is right, and none comes twice.
    """
    totals = np.empty(LANES, np.float32)
    total = 0.0
    num_bins = starts.shape[0]
    for own in range(num_bins):
        totals[:] = np.float32(0)
        end = starts[own]
        for i in range(starts[own], stops[own]):
            while end < stops[own] and s[end] - s[i] < width:
                end += 1
            pairs_near(*bins, slopes, totals, i, i + 1, end)
        if own + 1 < num_bins:
            begin = end = starts[own + 1]
            stop = stops[own + 1]
            for i in range(starts[own], stops[own]):
                while begin < stop and s[i] - s[begin] >= width:
                    begin += 1
                while end < stop and s[end] - s[i] < width:
                    end += 1
                pairs_near(*bins, slopes, totals, i, begin, end)
        total += totals.sum()
    return total


@compiled
def _fill_bins(s, t, order_S, ranks_T, lowest, steepness, binned_s, bins, starts, stops, place):
    """The classes by bin of ``t``, in each bin in the order of ``s``, with room between bins.

    ``bins`` are the first arguments of ``pairs_near``; ``place`` (C,) is where each class went.
    """
    powers_T, parts_T, binned_ranks_T, powers_S, parts_S, binned_ranks_S = bins
    width = NEAR / steepness
    stops[:] = 0
    for i in range(t.shape[0]):
        stops[np.int64((np.float64(t[i]) - lowest) / width)] += 1
    position = 0
    for own in range(starts.shape[0]):
        starts[own] = position
        position += stops[own] + LANES
        stops[own] = starts[own]
    # These stay where no class goes: far above all classes in s.
    binned_s[:] = np.float32(np.inf)
    binned_t = parts_S
    binned_t[:] = np.float32(0)
    binned_ranks_T[:] = 0
    binned_ranks_S[:] = order_S.shape[0]
    for rank in range(order_S.shape[0]):
        i = order_S[rank]
        own = np.int64((np.float64(t[i]) - lowest) / width)
        to = stops[own]
        stops[own] = to + 1
        binned_t[to], binned_s[to] = t[i], s[i]
        binned_ranks_T[to], binned_ranks_S[to] = ranks_T[i], rank
        place[i] = to
    scale = 2.0 * steepness / math.log(2.0)
    split_exponent(binned_t, scale, powers_T, parts_T)
    for own in range(starts.shape[0]):
        start, stop = starts[own], stops[own]
        split_exponent(binned_s[start:stop], scale, powers_S[start:stop], parts_S[start:stop])
        powers_S[stop : stop + LANES] = FAR
        parts_S[stop : stop + LANES] = np.float32(1)


@compiled
def sweep_rows(
    preds_S, preds_T, steepness, surrogate, rows, need_grad, need_value, weight, loss, grad
):
    """``product`` in float32 with k times |logit| < 1e8; many classes for the logits' range."""
    count = preds_S.shape[1]
    sorting = sort_buffers(count)
    words, words_before, groups_before = bit_buffers(count + 1)
    order_S, order_T = np.empty(count, np.int32), np.empty(count, np.int32)
    ranks = np.empty(count, np.int32)
    ranks_S, ranks_T = np.empty(count, np.int32), np.empty(count, np.int32)
    first_near, place = np.empty(count, np.int32), np.empty(count, np.int32)
    slope = np.empty(count, np.float32)
    nodes_per_logit = steepness / STEP
    pairs = count * (count - 1) / 2
    factor = np.float32(-steepness * weight / pairs)
    width = NEAR / steepness
    for row in rows:
        s, t = preds_S[row], preds_T[row]
        min_S, max_S, min_T, max_T = logit_ranges(s, t)
        for logits, order, ranks_of in ((s, order_S, ranks_S), (t, order_T, ranks_T)):
            argsort(logits, order, 4, sorting)
            for i in range(count):
                ranks_of[order[i]] = i

        size = line_size(max(max_S - min_S, max_T - min_T), steepness)
        nodes, counts = np.empty(size, np.float32), np.empty(size, np.float32)
        buffers = nodes, counts, words, first_near
        if need_value:
            _first_near(order_S, s, min_S, nodes_per_logit, first_near)
        value = _sweep(
            order_T, s, ranks_S, min_S, nodes_per_logit, need_value, need_grad, buffers, slope
        )
        if need_value:
            _first_near(order_T, t, min_T, nodes_per_logit, first_near)
            value += _sweep(
                order_S, t, ranks_T, min_T, nodes_per_logit, True, False, buffers, slope
            )
            for i in range(count):
                ranks[i] = ranks_S[order_T[i]]
            concordant = concordant_pairs(ranks, words, words_before, groups_before)
            value += 2.0 * concordant - pairs

        num_bins = np.int64((max_T - min_T) / width) + 1
        starts, stops = np.empty(num_bins, np.int64), np.empty(num_bins, np.int64)
        room = count + num_bins * LANES
        binned_s, near_slope = np.empty(room, np.float32), np.zeros(room, np.float32)
        bins = (
            np.empty(room, np.int32),
            np.empty(room, np.float32),
            np.empty(room, np.int32),
            np.empty(room, np.int32),
            np.empty(room, np.float32),
            np.empty(room, np.int32),
        )
        _fill_bins(s, t, order_S, ranks_T, min_T, steepness, binned_s, bins, starts, stops, place)
        near = _near_in_both(binned_s, bins, starts, stops, np.float32(width), near_slope)
        loss[row] = 1.0 - (value + 4.0 * near) / pairs if need_value else 0.0
        if need_grad:
            eight = np.float32(8)
            for i in range(count):
                grad[row, i] = factor * (slope[i] + eight * near_slope[place[i]])

"""Large k and many classes in time that grows with C: strips, and the pairs that are near in both.

With the classes in strips along each axis, and o = +-1 for two in different strips, by which is
the higher one, and 0 for two in the same,

    T S = o_t S + o_s T - o_t o_s + (T - o_t) (S - o_s).

The first sum walks through the teacher's strips with a line of nodes along s, for the tanh of all
classes in lower strips less those in higher ones. The second does the same with the roles
exchanged, the third counts, and the last needs only the pairs that are near, or in the same
strip, in both.
"""

from __future__ import annotations

import math

import numpy as np

from mmkendall.functional.backends.numba_loops.basics import (
    LANES,
    compiled,
    logit_ranges,
    split_exponent,
)
from mmkendall.functional.backends.numba_loops.taps import (
    PIECES,
    PIECES_SLOPE,
    REACH,
    RISES_BACK,
    STEP,
    TAPS,
    count_nodes,
    locate,
)
from mmkendall.functional.backends.numba_loops.vectors import (
    CONVOLVED,
    convolve_lanes,
    make_gather_line,
    make_spread_line,
    next_strip_pairs,
    own_strip_pairs,
)
from mmkendall.functional.backends.numba_loops.window import NEAR, count_near

NEAR_CELLS = int(NEAR / STEP) + 1
NEAR_POWERS = 2 * NEAR / math.log(2) + 1
# A strip has at least 2**5 cells, the least that is not narrower than NEAR.
MIN_SHIFT, MAX_SHIFT = 5, 12
# Zeros on either side of a line, for what is convolved with it and in 64 nodes at a time.
PAD = 2 * REACH + 1 + CONVOLVED
# What is added up in float32, so that it loses little: nodes, classes, and the pairs of a class.
RUN, BLOCK, CHUNK = 16, 64, 512
# A power of two that no class comes near, whose difference from any is an int32.
FAR = 1_500_000_000
spread_line, gather_slope = make_spread_line(PIECES), make_gather_line(PIECES_SLOPE)
# Nanoseconds, measured like those in choice.py.
EACH_NODE, EACH_PAIR, EACH_CLASS = 2.0, 0.5, 50.0


@compiled
def choose_strips(pairs, range_S, range_T):
    """How many cells a strip has, as a power of two, and the nanoseconds for strips and pairs.

    The ranges are times k. Wider strips are fewer lines to convolve and more pairs.
    """
    # Pairs in a square of (1 / k)^2: either difference may be up to 8 / k, and one have two signs.
    density = count_near(pairs, range_S) * count_near(1.0, range_T) / (2 * NEAR**2)
    best, lowest = MIN_SHIFT, np.inf
    for shift in range(MIN_SHIFT, MAX_SHIFT):
        width = STEP * 2.0**shift
        nodes = (1.0 + range_T / width) * (range_S / STEP + 4 * REACH)
        nodes += (1.0 + range_S / width) * (range_T / STEP + 4 * REACH)
        reach = width + NEAR**2 / width
        near = density * (0.5 * width + NEAR) * reach
        cost = EACH_NODE * nodes + EACH_PAIR * near
        if cost < lowest:
            best, lowest = shift, cost
    return best, lowest


@compiled
def _order_by_cells(s, t, lowest, scale, ends, by_s, by_t, classes):
    """The classes as their cells along ``s`` ascend."""
    ends[:] = 0
    for i in range(s.shape[0]):
        ends[locate(s[i], lowest, scale)[0] + 1] += 1
    for cell in range(1, ends.shape[0]):
        ends[cell] += ends[cell - 1]
    for i in range(s.shape[0]):
        cell = locate(s[i], lowest, scale)[0]
        place = ends[cell]
        ends[cell] = place + 1
        by_s[place], by_t[place], classes[place] = s[i], t[i], i


@compiled
def _rises(spread, begin, end, rises):
    """How much the sum of tanh rises after each node from ``begin`` to ``end``, or 63 more."""
    for start in range(begin, end, CONVOLVED):
        rises[start : start + CONVOLVED] = np.float32(0)
        convolve_lanes(spread, start - REACH, 1, RISES_BACK, rises, start)


@compiled
def _rising_dot(weights, line, start, stop, height):
    """The sum of ``weights`` times what begins as ``height`` and rises by ``line`` at each node.

    A run of nodes after the other: within one, the processor does not wait for float64.
    """
    total = 0.0
    for first in range(start, stop, RUN):
        product = rise = weight = np.float32(0)
        for n in range(first, first + RUN):
            product += weights[n] * rise
            weight += weights[n]
            rise += line[n]
        total += product + height * weight
        height += rise
    return total


@compiled
def _walk_strip(first, last, height, buffers):
    """Takes the strip's classes, which were above, below; returns their agreement with all others.

    They are in ``sums`` from ``first`` to before ``last``, and that is emptied. ``total_rises``
    are those of the sum of tanh of all classes below less those above. ``line`` gets what they
    are with the strip's own as neither, for the nodes of the strip. ``height`` is the sum of tanh
    left of all nodes.
    """
    sums, total_rises, spread, rises, line = buffers
    begin, end = first - REACH - 1, last + REACH
    for n in range(first, last):
        spread[n] = sums[n]
        sums[n] = 0.0
    _rises(spread, begin, end, rises)
    for n in range(begin, end):
        own = total_rises[n] + rises[n]
        line[n] = own
        total_rises[n] = own + rises[n]
    for n in range(begin):
        height += total_rises[n]
    for n in range(begin, first):
        height += line[n]
    total = _rising_dot(spread, line, first, last, height)
    spread[first:last] = np.float32(0)
    return total


@compiled
def _teacher_line(by_s, by_t, min_S, min_T, scale, shift, buffers):
    """Twice the sum of o_s T over all pairs."""
    sums, total_rises = buffers[0], buffers[1]
    count = by_s.shape[0]
    total_rises[:] = 0.0
    total = 0.0
    start = 0
    while start < count:
        strip = locate(by_s[start], min_S, scale)[0] >> shift
        first, last = sums.shape[0], 0
        stop = start
        while stop < count and locate(by_s[stop], min_S, scale)[0] >> shift == strip:
            cell, f = locate(by_t[stop], min_T, scale)
            spread_line(sums, PAD + cell, f)
            first, last = min(first, PAD + cell), max(last, PAD + cell + TAPS)
            stop += 1
        total += _walk_strip(first, last, -(start + stop), buffers)
        start = stop
    return total


@compiled
def _fill_strips(by_s, by_t, classes, min_T, scale, shift, starts, stops, strip_s, strip_t, ids):
    """The classes by strip of ``t``, in each as they come, with room between the strips."""
    stops[:] = 0
    for t in by_t:
        stops[locate(t, min_T, scale)[0] >> shift] += 1
    position = 0
    for strip in range(starts.shape[0]):
        starts[strip] = position
        position += stops[strip] + LANES
        stops[strip] = starts[strip]
    for n in range(by_t.shape[0]):
        strip = locate(by_t[n], min_T, scale)[0] >> shift
        to = stops[strip]
        stops[strip] = to + 1
        strip_s[to], strip_t[to], ids[to] = by_s[n], by_t[n], classes[n]


@compiled
def _student_line(strip_s, starts, stops, min_S, scale, need_slope, buffers, cells, slope):
    """Twice the sum of o_t S over all pairs.

    ``slope`` gets an eighth of each class's sum of o_t (1 - S^2), and ``cells`` its cell.
    """
    sums, total_rises, spread, rises, line = buffers
    per_step = np.float32(1 / (8 * STEP))
    total_rises[:] = 0.0
    count = 0
    for strip in range(starts.shape[0]):
        for n in range(starts[strip], stops[strip]):
            cell, f = locate(strip_s[n], min_S, scale)
            cells[n] = cell
            spread_line(sums, PAD + cell, f)
        count += stops[strip] - starts[strip]
    last = sums.shape[0] - PAD
    spread[:] = sums
    sums[:] = 0.0
    _rises(spread, PAD - REACH - 1, last + REACH, rises)
    for n in range(PAD - REACH - 1, last + REACH):
        total_rises[n] = -rises[n]
    spread[:] = np.float32(0)
    total = 0.0
    seen = 0
    for strip in range(starts.shape[0]):
        start, stop = starts[strip], stops[strip]
        if start == stop:
            continue
        for n in range(start, stop):
            f = locate(strip_s[n], min_S, scale)[1]
            spread_line(sums, PAD + cells[n], f)
        first, last = PAD + cells[start], PAD + cells[stop - 1] + TAPS
        height = count - 2 * seen - (stop - start)
        total += _walk_strip(first, last, height, buffers)
        seen += stop - start
        if need_slope:
            for n in range(start, stop):
                f = locate(strip_s[n], min_S, scale)[1]
                slope[n] = per_step * gather_slope(line, PAD + cells[n], f)
    return total


@compiled
def _count_orders(cells, starts, stops, shift, num_strips):
    """The sum of o_t o_s over all pairs."""
    below, own = np.zeros(num_strips, np.int64), np.zeros(num_strips, np.int64)
    total = seen = 0
    for strip in range(starts.shape[0]):
        for n in range(starts[strip], stops[strip]):
            own[cells[n] >> shift] += 1
        less = 0
        for other in range(num_strips):
            total += own[other] * (2 * less + below[other] - seen)
            less += below[other]
        for other in range(num_strips):
            below[other] += own[other]
            own[other] = 0
        seen = less + stops[strip] - starts[strip]
    return total


@compiled
def _near_in_both(pairing, cells, starts, stops, shift, upper_power, strip_powers, slopes):
    """A quarter of the sum of (T - o_t)(S - o_s) over the pairs that are near in both logits.

    An eighth of each class's sum of (T - o_t)(1 - S^2) is added to ``slopes``. Near means less
    than 8 / k apart, or in the same strip. A strip's classes ascend in ``cells`` and are followed
    by ``LANES`` that are far from all others. More pairs than needed are taken, to fill the lanes:
    each is right, and none comes twice. A class has no near ones in the next strip unless its
    power in the teacher is at least ``upper_power``, and ``strip_powers`` more for each strip.
    """
    powers_T = pairing[0]
    changes = np.zeros(slopes.shape[0], np.float32)
    total = 0.0
    num_strips = starts.shape[0]
    for strip in range(num_strips):
        start, stop = starts[strip], stops[strip]
        next_start = next_stop = next_end = 0
        if strip + 1 < num_strips:
            next_start = next_end = starts[strip + 1]
            next_stop = stops[strip + 1]
        lowest_power = upper_power + strip * strip_powers
        end = start
        for block in range(start, stop, BLOCK):
            next_block = next_start
            for i in range(block, min(block + BLOCK, stop)):
                low = (cells[i] >> shift) << shift
                high = low + (1 << shift)
                reach = max(cells[i] + NEAR_CELLS, high)
                while end < stop and cells[end] < reach:
                    end += 1
                for j in range(i + 1, end, CHUNK):
                    total += own_strip_pairs(
                        *pairing, cells, changes, low, high, i, j, min(j + CHUNK, end)
                    )
                if powers_T[i] < lowest_power:
                    continue
                back = min(cells[i] - NEAR_CELLS, low)
                while next_start < next_stop and cells[next_start] < back:
                    next_start += 1
                while next_end < next_stop and cells[next_end] < reach:
                    next_end += 1
                for j in range(next_start, next_end, CHUNK):
                    total += next_strip_pairs(
                        *pairing, cells, changes, low, high, i, j, min(j + CHUNK, next_end)
                    )
            _move(changes, slopes, block, end + LANES)
            _move(changes, slopes, next_block, next_end + LANES)
    return total


@compiled
def _move(changes, slopes, start, stop):
    """Adds some of the ``changes`` to the ``slopes`` and empties them."""
    for n in range(start, stop):
        slopes[n] += changes[n]
        changes[n] = np.float32(0)


@compiled
def sweep_rows(
    preds_S, preds_T, steepness, surrogate, rows, need_grad, need_value, weight, loss, grad
):
    """``product`` in float32 with k times |logit| < 1e8; many classes for the logits' range."""
    count = preds_S.shape[1]
    scale = steepness / STEP
    exponents = 2.0 * steepness / math.log(2.0)
    pairs = count * (count - 1) / 2
    factor = np.float32(-8.0 * steepness * weight / pairs)
    for row in rows:
        s, t = preds_S[row], preds_T[row]
        min_S, max_S, min_T, max_T = logit_ranges(s, t)
        range_S, range_T = steepness * (max_S - min_S), steepness * (max_T - min_T)
        shift = choose_strips(pairs, range_S, range_T)[0]
        strips_S = (locate(max_S, min_S, scale)[0] >> shift) + 1
        strips_T = (locate(max_T, min_T, scale)[0] >> shift) + 1
        starts, stops = np.empty(strips_T, np.int64), np.empty(strips_T, np.int64)
        room = count + strips_T * LANES
        floats, integers = np.empty((5, room), np.float32), np.empty((4, room), np.int32)
        by_s, by_t, classes = floats[0, :count], floats[1, :count], integers[0, :count]
        size = count_nodes(max(range_S, range_T))
        _order_by_cells(s, t, min_S, scale, np.empty(size, np.int32), by_s, by_t, classes)

        # Sums in float64: in float32, classes that are equal would all be rounded alike.
        wide_lines = np.zeros((2, size + 2 * PAD), np.float64)
        lines = np.zeros((3, size + 2 * PAD), np.float32)
        buffers = wide_lines[0], wide_lines[1], lines[0], lines[1], lines[2]
        value = 0.0
        if need_value:
            value += 0.5 * _teacher_line(by_s, by_t, min_S, min_T, scale, shift, buffers)
        strip_s, strip_t, slope = floats[2], floats[3], floats[4]
        ids, cells = integers[1], integers[2]
        _fill_strips(
            *(by_s, by_t, classes, min_T, scale, shift, starts, stops, strip_s, strip_t, ids)
        )
        value += 0.5 * _student_line(
            strip_s, starts, stops, min_S, scale, need_grad, buffers, cells, slope
        )
        if need_value:
            value -= _count_orders(cells, starts, stops, shift, strips_S)

        # Nothing needs the first order any more.
        parts_S, parts_T, powers_S, powers_T = floats[0], floats[1], integers[0], integers[3]
        for strip in range(strips_T):
            inside = slice(starts[strip], stops[strip])
            split_exponent(strip_t[inside], exponents, powers_T[inside], parts_T[inside])
            split_exponent(strip_s[inside], exponents, powers_S[inside], parts_S[inside])
            after = slice(stops[strip], stops[strip] + LANES)
            powers_S[after] = cells[after] = FAR
            parts_S[after] = parts_T[after] = np.float32(1)
            powers_T[after] = 0
        strip_width = 2.0**shift / scale
        value += 4.0 * _near_in_both(
            (powers_T, parts_T, powers_S, parts_S),
            *(cells, starts, stops, shift),
            (min_T + strip_width) * exponents - NEAR_POWERS,
            strip_width * exponents,
            slope,
        )
        loss[row] = 1.0 - value / pairs if need_value else 0.0
        if need_grad:
            out = grad[row]
            for strip in range(strips_T):
                for n in range(starts[strip], stops[strip]):
                    out[ids[n]] = factor * slope[n]

"""The two sums of ``window`` where classes have very many near ones: O(C), but for few pairs.

With o = +-1 by position after sorting, T S = o_t S + o_s T - o_t o_s + (T - o_t) (S - o_s).

For the first of these the classes are visited as their teacher's logits ascend. A line of nodes
along s holds those that were visited: read at a class, it gives the sums over all before it of S
and, for the gradient, of 1 - S^2, and in the end over all classes. The second is the same with the
roles exchanged. The third is a count, which ``window`` has anyway, and for the last only the pairs
count that are near each other in both logits.
"""

from __future__ import annotations

import numpy as np

from mmkendall.functional.backends.numba_loops import taps
from mmkendall.functional.backends.numba_loops.basics import compiled, exp2, fill, variant
from mmkendall.functional.backends.numba_loops.pairs import BLOCK, NEAR, make_near_pairs

# For a class a node below its own counts 1 and any other -1, which takes the sums of GROUP nodes
# alone. What tanh lacks to that it reads from WIDTH nodes: all that are less than NEAR away.
MARGIN = int(NEAR / taps.STEP) + taps.TAPS // 2
WIDTH, SHIFT = 2 * MARGIN + taps.TAPS, 6
GROUP = 1 << SHIFT


def _reading(pieces, at, counted):
    """(DEGREE + 1, WIDTH): what a node counts for a class, by powers of how far that lies above
    its own node, less ``counted`` for nodes below that one and plus ``counted`` for the others.
    """
    nodes = np.arange(WIDTH) - MARGIN
    tap = np.arange(pieces.shape[1])[:, None]
    table = np.tensordot(pieces, at(tap - nodes), 1)
    table[0] -= np.where(nodes < 0, counted, -counted)
    return table.astype(np.float32)


VALUES = _reading(taps.PIECES, taps.kernel_at, 1)
SLOPES = _reading(taps.PIECES_SLOPE, taps.rise_at, 0)


def _read(line, rest):
    """The sum of ``line`` times the polynomials of ``VALUES``: as a constant, twice as fast."""
    total = np.float32(0)
    for n in range(WIDTH):
        high = VALUES[4, n] + rest * (VALUES[5, n] + rest * (VALUES[6, n] + rest * VALUES[7, n]))
        high = VALUES[2, n] + rest * (VALUES[3, n] + rest * high)
        total += line[n] * (VALUES[0, n] + rest * (VALUES[1, n] + rest * high))
    return total


_read_value = compiled(variant(_read, 'read_value'))
_read_slope = compiled(variant(_read, 'read_slope', VALUES=SLOPES))


@compiled
def _visit(logits, lowest, highest, scale, slopes):
    """The sum over all pairs of tanh(k (x_i - x_j)) where i comes after j in ``logits``.

    ``slopes``, unless it is empty, grows for each by the sum of 1 - tanh^2 over those before it
    less those after it.
    """
    count = logits.shape[0]
    size = taps.count_nodes(scale * taps.STEP * (highest - lowest)) + GROUP + WIDTH
    # Added up in float64: in float32, classes that are equal would all be rounded alike.
    in_double, in_single = np.zeros((2, size), np.float64), np.zeros((2, size), np.float32)
    wide, wide_groups, line, groups = in_double[0], in_double[1], in_single[0], in_single[1]
    nodes, weights = np.empty(BLOCK, np.int64), np.empty((taps.TAPS + 1, BLOCK), np.float32)
    total = 0.0
    for visit in range(2 if slopes.shape[0] else 1):
        for start in range(0, count, BLOCK):
            some = logits[start : start + BLOCK]
            fill(nodes, MARGIN)
            taps.locate(some, lowest, scale, 1, nodes, weights)
            if not visit:
                taps.weigh(some.shape[0], taps.VALUE_PIECES, weights)
            for i in range(some.shape[0]):
                node, rest = nodes[i], weights[taps.TAPS, i]
                near = line[node - MARGIN : node - MARGIN + WIDTH]
                if slopes.shape[0]:
                    # Twice those before it, less all but itself.
                    slope = _read_slope(near, rest) / np.float32(taps.STEP)
                    slopes[start + i] += np.float32(1) - slope if visit else slope + slope
                if visit:
                    continue
                group, left = node >> SHIFT, node & (GROUP - 1)
                below = np.float32(0)
                for other in groups[:group]:
                    below += other
                for other in line[group << SHIFT : node]:
                    below += other
                total += _read_value(near, rest) + 2.0 * below - (start + i)
                own_wide, own_line = wide[node : node + taps.TAPS], line[node : node + taps.TAPS]
                mass = upper = 0.0
                for tap in range(taps.TAPS):
                    own_wide[tap] += weights[tap, i]
                    own_line[tap] = own_wide[tap]
                    mass += weights[tap, i]
                    upper += weights[tap, i] if left + tap >= GROUP else 0.0
                own_groups = wide_groups[group : group + 2]
                own_groups[0] += mass - upper
                own_groups[1] += upper
                groups[group], groups[group + 1] = own_groups[0], own_groups[1]
    return total


@compiled(forceinline=True)
def _add_strip_pairs(s_i, t_i, s_j, t_j, size, away, order, numbers, changes):
    """``pairs.make_add`` of (T - o_t) (S - o_s), for s_i <= s_j.

    With a = exp(2kt), T + 1 = 2 a_i / (a_i + a_j) and T - 1 = -2 a_j / (a_i + a_j): no digits are
    lost. ``away`` places behind t is a, or -a in the upper of two strips. Two classes of one strip
    meet twice, and a half counts each time.
    """
    one, limit, scale = numbers
    signed_i, signed_j = t_i[away:], t_j[away:]
    for m in range(size):
        a_i, a_j = abs(signed_i[m]), abs(signed_j[m])
        q, grown = exp2(min(max(scale * (s_i[m] - s_j[m]), -limit), limit))
        sum_t, sum_s = a_i + a_j, q + one + one
        inverse = one / (sum_t * sum_s)
        weight = one if signed_i[m] * signed_j[m] > 0 else one + one
        part = weight * (a_i if t_i[m] <= t_j[m] else -a_j) * grown * inverse
        change = part * (sum_t * inverse)
        changes[m] = change
        changes[m + BLOCK] += change
        changes[m + 2 * BLOCK] += part + part


_strip_pairs = make_near_pairs(None, _add_strip_pairs)


@compiled
def _near_in_both(s, t, lowest, highest, steepness, numbers, floats, ids, changes, slope, values):
    """The sum of (T - o_t) (S - o_s), whose pairs are near each other in both logits.

    The teacher's logits are cut into strips as wide as near is. Each strip is taken once with the
    one above it and once with the one below.
    """
    count, width, scale = s.shape[0], NEAR / steepness, steepness / NEAR
    own_s, own_t, signed, own_slope = floats[0], floats[1], floats[2], floats[3]
    t_and_signed = floats[1:3].reshape(2 * count)
    starts = np.empty(int((highest - lowest) * scale) // 2 + 4, np.int32)
    total = 0.0
    for shift in range(2):
        fill(starts, 0)
        for i in range(count):
            starts[(int((t[i] - lowest) * scale) + shift) // 2 + 2] += 1
        for two in range(2, starts.shape[0]):
            starts[two] += starts[two - 1]
        for i in range(count):
            position = (t[i] - lowest) * scale
            strip = int(position) + shift
            place = starts[strip // 2 + 1]
            starts[strip // 2 + 1] = place + 1
            own_s[place], own_t[place], ids[place] = s[i], t[i], i
            # 1 where the two strips meet. Rounding may not put a class on the other side of that.
            _, grown = exp2(numbers[2] * np.float32(width * (position + shift - (strip | 1))))
            signed[place] = -grown if strip % 2 else grown
        fill(own_slope, 0)
        fill(values, 0)
        for two in range(starts.shape[0] - 1):
            first, own = starts[two], slice(starts[two], starts[two + 1])
            others = own_s[own], t_and_signed[first:], width, numbers[0], 1, count
            _strip_pairs(*others, numbers, changes, own_slope[own], values[own])
        for place in range(count):
            slope[ids[place]] += own_slope[place]
            total += values[place]
    return total


@compiled
def line_sums(s, t, ordered_t, ranks, steepness, numbers, need_value, changes, slope, values):
    """The sum of T S + o_t o_s over the pairs.

    ``s`` ascends, ``t`` are the teacher's logits of the same classes, and ``ranks`` these classes
    as the teacher's logits ascend. A quarter of each class's sum of T (1 - S^2) is added to
    ``slope``.
    """
    count = s.shape[0]
    scale = steepness / taps.STEP
    floats, ids = np.zeros((4, count), np.float32), np.empty(count, np.int32)
    visited, slopes = floats[0], floats[1]
    for i in range(count):
        visited[i] = s[ranks[i]]
    lowest, highest = np.float64(ordered_t[0]), np.float64(ordered_t[count - 1])
    total = _visit(visited, np.float64(s[0]), np.float64(s[count - 1]), scale, slopes)
    for i in range(count):
        slope[ranks[i]] += np.float32(0.25) * slopes[i]
    total += _visit(t, lowest, highest, scale, slopes[:0])
    return total + _near_in_both(
        s, t, lowest, highest, steepness, numbers, floats, ids, changes, slope, values
    )

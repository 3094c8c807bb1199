"""The two sums of ``window`` where classes have very many near ones: O(C), but for few pairs.

With o = +-1 by position after sorting, T S = o_t S + o_s T - o_t o_s + (T - o_t) (S - o_s).

For the first of these the classes are visited as their teacher's logits ascend. A line of nodes
along s holds the classes, with -1 for those yet to come and +1 for those that were seen: read at a
class, it gives the sums over all others of o_t S and, for the gradient, of o_t (1 - S^2). The
second is the same with the roles exchanged. The third is a count, which ``window`` has anyway, and
for the last only the pairs count that are near each other in both logits.
"""

from __future__ import annotations

import numpy as np

from mmkendall.functional.backends.numba_loops import taps
from mmkendall.functional.backends.numba_loops.basics import compiled, exp2, fill
from mmkendall.functional.backends.numba_loops.pairs import BLOCK, NEAR, make_near_pairs, tanh

# Nodes are counted in groups, and a class reads some whole groups: all nodes that are less than
# NEAR away, on either side, and others. Beyond those its tanh is +-1.
SHIFT = 4
GROUP = 1 << SHIFT
MARGIN = int(NEAR / taps.STEP) + 1
WIDTH = (2 * MARGIN + taps.TAPS + 2 * GROUP - 1) // GROUP * GROUP
# Empty nodes below the first one and above the last one.
BELOW = (MARGIN + 2 * GROUP - 1) // GROUP * GROUP


def _reading(pieces, at):
    """(DEGREE + 1, nodes): what a node counts for a class, by powers of how far that lies above
    its own node. The first node is ``MARGIN + GROUP - 1`` below that one.
    """
    nodes = np.arange(WIDTH + GROUP - 1) - (MARGIN + GROUP - 1)
    tap = np.arange(pieces.shape[1])[:, None]
    return np.tensordot(pieces, at(tap - nodes), 1).astype(np.float32)


READ_VALUE = _reading(taps.PIECES, taps.kernel_at)
READ_SLOPE = _reading(taps.PIECES_SLOPE, taps.rise_at)


@compiled
def _read(line, table, start, rest):
    """The sums of ``line`` times the polynomials from ``start`` on, and of ``line`` itself."""
    c0, c1 = table[0, start : start + WIDTH], table[1, start : start + WIDTH]
    c2, c3 = table[2, start : start + WIDTH], table[3, start : start + WIDTH]
    c4, c5 = table[4, start : start + WIDTH], table[5, start : start + WIDTH]
    c6, c7 = table[6, start : start + WIDTH], table[7, start : start + WIDTH]
    total = mass = np.float32(0)
    for n in range(line.shape[0]):
        high = c4[n] + rest * (c5[n] + rest * (c6[n] + rest * c7[n]))
        low = c0[n] + rest * (c1[n] + rest * (c2[n] + rest * (c3[n] + rest * high)))
        total += line[n] * low
        mass += line[n]
    return total, mass


@compiled
def _visit(logits, lowest, highest, scale, slopes):
    """The sum over all pairs of tanh(k (x_i - x_j)) where i comes after j in ``logits``.

    ``slopes``, unless it is empty, gets for each the sum of 1 - tanh^2 over those before it less
    those after it.
    """
    count = logits.shape[0]
    size = taps.count_nodes(scale * taps.STEP * (highest - lowest)) + BELOW + WIDTH
    # Added up in float64: in float32, classes that are equal would all be rounded alike.
    in_double, in_single = np.zeros((2, size), np.float64), np.zeros((2, size), np.float32)
    wide, wide_groups, line, groups = in_double[0], in_double[1], in_single[0], in_single[1]
    nodes, weights = np.empty(BLOCK, np.int64), np.empty((taps.TAPS + 1, BLOCK), np.float32)
    total = 0.0
    for visit in range(2):
        for start in range(0, count, BLOCK):
            some = logits[start : start + BLOCK]
            fill(nodes, BELOW)
            taps.locate(some, lowest, scale, 1, nodes, weights)
            taps.weigh(some.shape[0], taps.VALUE_PIECES, weights)
            for i in range(some.shape[0]):
                node, rest = nodes[i], weights[taps.TAPS, i]
                if visit == 1:
                    group = (node - MARGIN) >> SHIFT
                    first = group << SHIFT
                    near = line[first : first + WIDTH]
                    offset = first - node + MARGIN + GROUP - 1
                    value, mass = _read(near, READ_VALUE, offset, rest)
                    below = np.float32(0)
                    for other in groups[:group]:
                        below += other
                    # All that were seen less all that were not, this one among them.
                    above = 2.0 * (start + i) - count - below - mass
                    total += below + value - above
                    if slopes.shape[0]:
                        slope, _ = _read(near, READ_SLOPE, offset, rest)
                        # Less what the class itself is there.
                        slopes[start + i] = slope / np.float32(taps.STEP) + np.float32(1)
                change = 2.0 if visit == 1 else -1.0
                group, left = node >> SHIFT, GROUP - (node & (GROUP - 1))
                own_wide, own_line = wide[node : node + taps.TAPS], line[node : node + taps.TAPS]
                mass = upper = 0.0
                for tap in range(taps.TAPS):
                    weight = change * weights[tap, i]
                    own_wide[tap] += weight
                    own_line[tap] = own_wide[tap]
                    mass += weight
                    upper += weight if tap >= left else 0.0
                own_groups = wide_groups[group : group + 2]
                own_groups[0] += mass - upper
                own_groups[1] += upper
                groups[group], groups[group + 1] = own_groups[0], own_groups[1]
    return total / 2


@compiled
def _strip_pair(t_i, t_j, s_i, s_j, one, limit, scale):
    """T - o_t, S and a quarter of (T - o_t) (1 - S^2), for s_i <= s_j.

    T - 1 = -2 / (q + 2) and T + 1 = 2 (q + 1) / (q + 2), with q = exp(2k(t_i - t_j)) - 1.
    """
    q, grown = exp2(min(max(scale * (t_i - t_j), -limit), limit))
    inverse = one / (q + one + one)
    rest = (-one if t_i > t_j else grown) * (inverse + inverse)
    S, tail = tanh(s_i - s_j, one, limit, scale)
    return rest, S, rest * tail


_strip_pairs = make_near_pairs(_strip_pair)


@compiled
def _near_in_both(s, t, lowest, highest, steepness, numbers, floats, ids, changes, slope, values):
    """The sum of (T - o_t) (S - o_s), whose pairs are near each other in both logits.

    The teacher's logits are cut into strips of twice the width of near. Pairs that are near each
    other share a strip of these or one of those half a strip further. Those that share both share
    one of half the width: they are taken off again.
    """
    one = numbers[0]
    count = s.shape[0]
    own_s, own_t, own_slope = floats[0], floats[1], floats[2]
    starts = np.empty(int(steepness * (highest - lowest) / NEAR) + 4, np.int32)
    total = 0.0
    for strips in range(3):
        width = NEAR if strips == 2 else 2.0 * NEAR
        scale, shift = steepness / width, 0.5 if strips == 1 else 0.0
        sign = -one if strips == 2 else one
        fill(starts, 0)
        for i in range(count):
            starts[int((t[i] - lowest) * scale + shift) + 2] += 1
        for strip in range(2, starts.shape[0]):
            starts[strip] += starts[strip - 1]
        for i in range(count):
            strip = int((t[i] - lowest) * scale + shift)
            place = starts[strip + 1]
            starts[strip + 1] = place + 1
            own_s[place], own_t[place], ids[place] = s[i], t[i], i
        fill(own_slope, one - one)
        fill(values, one - one)
        for strip in range(starts.shape[0] - 1):
            own = slice(starts[strip], starts[strip + 1])
            if own.stop > own.start:
                _strip_pairs(
                    *(own_s[own], own_t[own], NEAR / steepness, one, 1, 0, numbers, changes),
                    *(own_slope[own], values[own]),
                )
        for place in range(count):
            slope[ids[place]] += sign * own_slope[place]
            total += sign * values[place]
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
    floats, ids = np.empty((4, count), np.float32), np.empty(count, np.int32)
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

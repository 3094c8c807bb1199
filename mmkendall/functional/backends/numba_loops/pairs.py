"""Sums over pairs of classes, and what one pair adds to them.

``pair(t_i, t_j, s_i, s_j, one, limit, scale)`` returns T, S and a quarter of T (1 - S^2), where T
is the teacher's tanh, or what a surrogate has in its place, and S is the student's.
``t_i`` to ``s_j`` are the logits, or whatever else that pair asks for, ``scale`` is 2 k / log(2),
and ``limit`` the power of two beyond which tanh is +-1.
"""

from __future__ import annotations

import numpy as np

from mmkendall.functional.backends.numba_loops.basics import compiled, exp2, fill

# Classes whose neighbours at one distance are taken together.
BLOCK = 128
# k times a difference beyond which tanh is +-1 to within 3e-7.
NEAR = 8.0


@compiled
def tanh(difference, one, limit, scale):
    """tanh and a quarter of 1 - tanh^2, of k times a difference.

    tanh(x) = q / (q + 2) with q = exp(2x) - 1: no digits are lost where x is small.
    """
    q, grown = exp2(min(max(scale * difference, -limit), limit))
    inverse = one / (q + one + one)
    return q * inverse, grown * (inverse * inverse)


@compiled
def product(t_i, t_j, s_i, s_j, one, limit, scale):
    """``tanh`` of both, with one division."""
    q_t, _ = exp2(min(max(scale * (t_i - t_j), -limit), limit))
    q_s, grown = exp2(min(max(scale * (s_i - s_j), -limit), limit))
    sum_t, sum_s = q_t + one + one, q_s + one + one
    inverse = one / (sum_t * sum_s)
    T, inverse_s = q_t * (inverse * sum_s), inverse * sum_t
    return T, q_s * inverse_s, T * (inverse_s * inverse_s) * grown


@compiled
def product_ratio(t_i, t_j, s_i, s_j, one, limit, scale):
    """``product`` of a = exp(2kx): tanh(k(x_i - x_j)) = (a_i - a_j) / (a_i + a_j).

    T comes over the student's sum, and S times it: `dense` asks for their product alone.
    """
    sum_t, sum_s = t_i + t_j, s_i + s_j
    inverse = one / (sum_t * sum_s)
    part = (t_i - t_j) * inverse
    return part, s_i - s_j, part * (inverse * sum_t) * (s_i * s_j)


@compiled
def hard_teacher(t_i, t_j, s_i, s_j, one, limit, scale):
    T = one if t_i > t_j else (-one if t_i < t_j else one - one)
    S, tail = tanh(s_i - s_j, one, limit, scale)
    return T, S, T * tail


@compiled
def diffkendall(t_i, t_j, s_i, s_j, one, limit, scale):
    """One tanh, of the product of both differences: it is returned as S, beside a T of 1."""
    difference = (t_i - t_j) * (s_i - s_j)
    S, tail = tanh(difference, one, limit, scale)
    # A teacher's difference may be so large that even the last of tanh's tail counts.
    return one, S, (t_i - t_j) * (tail if abs(scale * difference) < limit else one - one)


@compiled
def count_places(logits, start, stop, width):
    """How many places apart two of ``logits``, which ascend, can be and less than ``width``.

    For the first of the two between ``start`` and ``stop``.
    """
    beyond = 1
    for i in range(start, stop):
        # Seldom true, so that a processor guesses it right.
        while i + beyond < logits.shape[0] and logits[i + beyond] - logits[i] < width:
            beyond += 1
    return beyond - 1


@compiled
def logits_of(x_i, x_j, m):
    return x_i[m], x_j[m]


def make_add(pair, numbers_of=logits_of):
    """``numbers_of`` gives for one of the two sides what ``pair`` asks for."""

    @compiled(forceinline=True)
    def add(s_i, t_i, s_j, t_j, size, way, order, numbers, changes):
        """What ``size`` pairs change: of one class of each, of the other one, and in value."""
        one, limit, scale = numbers
        # One array for three, so that LLVM has fewer to compare with the others.
        for m in range(size):
            a, b = numbers_of(t_i, t_j, m)
            c, d = numbers_of(s_i, s_j, m)
            T, S, change = pair(a, b, c, d, one, limit, scale)
            changes[m] = change
            changes[m + BLOCK] += change
            changes[m + 2 * BLOCK] += T * (S + order)

    return add


def make_near_pairs(pair, add=None):
    """``add`` is what ``make_add`` makes of the pair, or something that has several ways."""
    add = add or make_add(pair)

    @compiled
    def near_pairs(s, t, width, order, step, way, numbers, changes, slope, values):
        """The pairs less than ``width`` apart in ``s``, and a few more.

        ``s`` ascends unless ``width`` is infinite; then it may hold ``step`` rows, class by class.
        Each class's part of the sum of T (S + order) is added to ``values``, and its sum of what
        ``pair`` gives beside T and S to ``slope``. Neighbours 1, 2, ... places apart are taken for
        a block of classes at once: long loops in any window. ``way`` is for ``add``.
        """
        nothing = numbers[0] - numbers[0]
        count = slope.shape[0]
        for start in range(0, count, BLOCK):
            stop = min(start + BLOCK, count)
            places = (count - 1 - start) // step
            if width < np.inf:
                places = count_places(s, start, stop, width)
            fill(changes, nothing)
            s_i, t_i = s[start:], t[start:]
            for place in range(1, places + 1):
                other = start + place * step
                size = min(stop - start, count - other)
                add(s_i, t_i, s[other:], t[other:], size, way, order, numbers, changes)
                slope_j = slope[other:]
                for m in range(size):
                    slope_j[m] -= changes[m]
            slope_i, values_i = slope[start:stop], values[start:stop]
            for m in range(slope_i.shape[0]):
                slope_i[m] += changes[m + BLOCK]
                values_i[m] += changes[m + 2 * BLOCK]

    return near_pairs


def make_near_orders(pair):
    @compiled
    def near_orders(t, ranks, width, numbers):
        """The sum of (T + 1) o_s over pairs less than ``width`` apart in ``t``, which ascends.

        ``ranks`` are those of the student's logits.
        """
        one, limit, scale = numbers
        count = t.shape[0]
        total = 0.0
        for start in range(0, count, BLOCK):
            stop = min(start + BLOCK, count)
            for place in range(1, count_places(t, start, stop, width) + 1):
                size = min(stop, count - place) - start
                t_i, rank_i = t[start : start + size], ranks[start : start + size]
                t_j, rank_j = t[start + place :], ranks[start + place :]
                value_i = one - one
                for m in range(size):
                    T, _, _ = pair(t_i[m], t_j[m], one, one, one, limit, scale)
                    value_i += T + one if rank_i[m] > rank_j[m] else -(T + one)
                total += value_i
        return total

    return near_orders

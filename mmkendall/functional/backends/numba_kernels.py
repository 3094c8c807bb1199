"""The compiled loops behind ``numba_cpu``. Importing this file imports Numba.

Every ``*_rows`` function works through the rows ``rows`` of ``preds_S`` and ``preds_T`` (N, C),
writes ``total``, the sum of the agreement over the pairs i < j, and, when ``need_grad``, ``slope``:
the sum over j of ``d agreement(i, j) / d (k s_i)``. All rows must be finite.

Two rules keep the loops vectorised: inner loops run over slices that start at their first element
(an offset would keep Numba's test for negative indices), and constants come in as arguments of
the rows' dtype. Fast-math never assumes the absence of infinities or NaN.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, types
from numba.extending import overload

FASTMATH = {'contract', 'reassoc', 'arcp', 'nsz'}
EXACT_ORDER = {'contract', 'nsz'}
LANES = 8
# Gradients are summed in the rows' dtype over a strip of this many classes, then in float64.
STRIP = 512
# With exp(2 k s) between e^-28 and e^28, products of four of them stay inside float32.
RATIO_RANGE = 28.0


def compiled(function=None, *, fastmath=FASTMATH):
    """``njit`` as every loop here wants it: no lock on the interpreter, code kept on disk."""

    def compile_(function):
        options = dict(nogil=True, fastmath=fastmath, error_model='numpy')
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:  # Neither the package nor the user has a folder to write to.
            return njit(**options)(function)

    return compile_ if function is None else compile_(function)


# --------------------------------------------------------------------------- one pair of classes


def _exp2m1(x):
    """``2**x - 1`` for -1000 < x < 1000 (float64) or -120 < x < 120 (float32)."""


def _series(order):
    return tuple(math.log(2) ** n / math.factorial(n) for n in range(1, order + 1))


A1, A2, A3, A4, A5, A6, A7 = (np.float32(a) for a in _series(7))
B1, B2, B3, B4, B5, B6, B7, B8, B9, B10, B11, B12, B13, B14 = _series(14)
# Adding it rounds to an integer and leaves that integer in the low bits.
ROUND_32 = np.float32(1.5 * 2**23)
ROUND_64 = np.float64(1.5 * 2**52)


@overload(_exp2m1, jit_options={'fastmath': EXACT_ORDER})
def _overload_exp2m1(x):
    if x == types.float32:

        def impl(x):
            rounded = x + ROUND_32
            f = x - (rounded - ROUND_32)
            bits = (np.float32(rounded).view(np.int32) << np.int32(23)) + np.int32(127 << 23)
            power = np.int32(bits).view(np.float32)
            series = f * (A1 + f * (A2 + f * (A3 + f * (A4 + f * (A5 + f * (A6 + f * A7))))))
            return power * series + (power - np.float32(1))

        return impl

    def impl(x):
        rounded = x + ROUND_64
        f = x - (rounded - ROUND_64)
        bits = (np.float64(rounded).view(np.int64) << np.int64(52)) + np.int64(1023 << 52)
        power = np.int64(bits).view(np.float64)
        high = B8 + f * (B9 + f * (B10 + f * (B11 + f * (B12 + f * (B13 + f * B14)))))
        low = B1 + f * (B2 + f * (B3 + f * (B4 + f * (B5 + f * (B6 + f * (B7 + f * high))))))
        return power * (f * low) + (power - 1.0)

    return impl


@compiled
def _pair_ratio(t_i, dt_i, s_i, ds_i, t_j, dt_j, s_j, ds_j, scale, one, limit):
    """tanh as a ratio: ``t``, ``s`` hold a = exp(2kx) and ``dt``, ``ds`` hold a - 1, exact.

    tanh(k(x_i - x_j)) = (a_i - a_j) / (a_i + a_j), 1 - tanh^2 = 4 a_i a_j / (a_i + a_j)^2.
    """
    sum_t = t_i + t_j
    sum_s = s_i + s_j
    inverse = one / (sum_t * sum_s)
    common = (dt_i - dt_j) * inverse
    return common * (ds_i - ds_j), common * (sum_t * inverse) * (s_i * s_j)


@compiled
def _pair_product(t_i, dt_i, s_i, ds_i, t_j, dt_j, s_j, ds_j, scale, one, limit):
    """tanh(x) = q / (q + 2) with q = exp(2x) - 1. ``t`` and ``s`` hold the logits."""
    two = one + one
    q_t = _exp2m1(min(max(scale * (t_i - t_j), -limit), limit))
    q_s = _exp2m1(min(max(scale * (s_i - s_j), -limit), limit))
    sum_t = q_t + two
    inverse = one / (sum_t * (q_s + two))
    common = q_t * inverse
    return common * q_s, common * (sum_t * inverse) * (q_s + one)


@compiled
def _pair_hard_teacher(t_i, dt_i, s_i, ds_i, t_j, dt_j, s_j, ds_j, scale, one, limit):
    zero = one - one
    sign_t = one if t_i > t_j else (-one if t_i < t_j else zero)
    q_s = _exp2m1(min(max(scale * (s_i - s_j), -limit), limit))
    inverse = one / (q_s + one + one)
    return sign_t * (q_s * inverse), sign_t * ((q_s + one) * (inverse * inverse))


@compiled
def _pair_diffkendall(t_i, dt_i, s_i, ds_i, t_j, dt_j, s_j, ds_j, scale, one, limit):
    delta_t = t_i - t_j
    q = _exp2m1(min(max(scale * (delta_t * (s_i - s_j)), -limit), limit))
    inverse = one / (q + one + one)
    return q * inverse, delta_t * ((q + one) * (inverse * inverse))


# ------------------------------------------------------------------------------------ all pairs


def _make_all_pairs(pair):
    @compiled
    def all_pairs(table, scale, one, limit, strip_slope, slope, num_classes):
        """Adds to ``slope`` a quarter of each class's sum; returns the sum over the pairs i < j.

        ``table`` is (4, C + LANES): the columns are t, dt, s, ds as ``pair`` takes them. The
        padding takes part in the loops, so that they have no remainder, and is masked out.
        """
        zero = one - one
        total = 0.0
        for start in range(0, num_classes, STRIP):
            stop = min(start + STRIP, num_classes)
            strip_slope[start:] = zero
            for i in range(start, stop):
                count = num_classes - 1 - i
                padded = (count + LANES - 1) // LANES * LANES
                t_i, dt_i, s_i, ds_i = table[0, i], table[1, i], table[2, i], table[3, i]
                t = table[0, i + 1 : i + 1 + padded]
                dt = table[1, i + 1 : i + 1 + padded]
                s = table[2, i + 1 : i + 1 + padded]
                ds = table[3, i + 1 : i + 1 + padded]
                mirror = strip_slope[i + 1 : i + 1 + padded]
                value_i = zero
                slope_i = zero
                for j in range(padded):
                    value, change = pair(
                        t_i, dt_i, s_i, ds_i, t[j], dt[j], s[j], ds[j], scale, one, limit
                    )
                    value_i += value if j < count else zero
                    slope_i += change if j < count else zero
                    mirror[j] -= change
                strip_slope[i] += slope_i
                total += value_i
            for i in range(start, num_classes):
                slope[i] += strip_slope[i]
        return total

    return all_pairs


_all_pairs_ratio = _make_all_pairs(_pair_ratio)
_all_pairs_product = _make_all_pairs(_pair_product)
_all_pairs_hard_teacher = _make_all_pairs(_pair_hard_teacher)
_all_pairs_diffkendall = _make_all_pairs(_pair_diffkendall)


@compiled
def _fill_ratio(logits, middle, scale, ratio, ratio_minus_one):
    """exp(2 k (x - middle)), and the same less one without cancellation."""
    for i in range(logits.shape[0]):
        grown = _exp2m1(scale * (np.float64(logits[i]) - middle))
        ratio[i] = grown + 1.0
        ratio_minus_one[i] = grown


PRODUCT, DIFFKENDALL, HARD_TEACHER = 0, 1, 2


@compiled
def _constants(preds, scale):
    """1, the exponent of 2 beyond which tanh is 1, and ``scale``, in the dtype of ``preds``."""
    constants = np.empty(3, preds.dtype)
    constants[0] = 1.0
    constants[1] = 30.0 if preds.itemsize == 4 else 60.0
    constants[2] = scale
    return constants[0], constants[1], constants[2]


@compiled
def dense_rows(preds_S, preds_T, steepness, surrogate, rows, need_grad, total, slope):
    """Every pair of classes: any input, O(C^2)."""
    num_classes = preds_S.shape[1]
    table = np.zeros((4, num_classes + LANES), preds_S.dtype)
    strip_slope = np.empty(num_classes + LANES, preds_S.dtype)
    sums = np.empty(num_classes, np.float64)
    scale64 = 2.0 * steepness / math.log(2.0)
    one, limit, scale = _constants(preds_S, scale64)
    for row in rows:
        s, t = preds_S[row], preds_T[row]
        sums[:] = 0.0
        factor = 4.0
        if surrogate == PRODUCT:
            min_S, max_S, min_T, max_T = _range(s, t)
            if steepness * max(max_S - min_S, max_T - min_T) <= RATIO_RANGE:
                _fill_ratio(t, (min_T + max_T) / 2, scale64, table[0], table[1])
                _fill_ratio(s, (min_S + max_S) / 2, scale64, table[2], table[3])
                table[0, num_classes:] = one
                table[2, num_classes:] = one
                total[row] = _all_pairs_ratio(
                    table, scale, one, limit, strip_slope, sums, num_classes
                )
            else:
                table[0, :num_classes] = t
                table[2, :num_classes] = s
                total[row] = _all_pairs_product(
                    table, scale, one, limit, strip_slope, sums, num_classes
                )
        else:
            table[0, :num_classes] = t
            table[2, :num_classes] = s
            if surrogate == HARD_TEACHER:
                total[row] = _all_pairs_hard_teacher(
                    table, scale, one, limit, strip_slope, sums, num_classes
                )
            else:
                total[row] = _all_pairs_diffkendall(
                    table, scale, one, limit, strip_slope, sums, num_classes
                )
        if need_grad:
            for i in range(num_classes):
                slope[row, i] = factor * sums[i]


@compiled
def _range(s, t):
    min_S = max_S = s[0]
    min_T = max_T = t[0]
    for i in range(s.shape[0]):
        min_S, max_S = min(min_S, s[i]), max(max_S, s[i])
        min_T, max_T = min(min_T, t[i]), max(max_T, t[i])
    return np.float64(min_S), np.float64(max_S), np.float64(min_T), np.float64(max_T)

"""All pairs of classes: any input, O(C^2)."""

from __future__ import annotations

import math

import numpy as np

from mmkendall.functional.backends.numba_loops.basics import (
    HARD_TEACHER,
    LANES,
    PRODUCT,
    compiled,
    constants,
    exp2,
    logit_ranges,
)

# Gradients are summed in the rows' dtype over a strip of this many classes, then in float64.
STRIP = 512
# With exp(2 k s) between e^-28 and e^28, products of four of them stay inside float32.
RATIO_RANGE = 28.0


@compiled
def _pair_ratio(t_i, dt_i, s_i, ds_i, t_j, dt_j, s_j, ds_j, scale, one, limit):
    """tanh as a ratio: ``t``, ``s`` hold a = exp(2kx) and ``dt``, ``ds`` hold a or a - 1.

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
    q_t, _ = exp2(min(max(scale * (t_i - t_j), -limit), limit))
    q_s, e_s = exp2(min(max(scale * (s_i - s_j), -limit), limit))
    sum_t = q_t + two
    inverse = one / (sum_t * (q_s + two))
    common = q_t * inverse
    return common * q_s, common * (sum_t * inverse) * e_s


@compiled
def _pair_hard_teacher(t_i, dt_i, s_i, ds_i, t_j, dt_j, s_j, ds_j, scale, one, limit):
    zero = one - one
    sign_t = one if t_i > t_j else (-one if t_i < t_j else zero)
    q_s, e_s = exp2(min(max(scale * (s_i - s_j), -limit), limit))
    inverse = one / (q_s + one + one)
    return sign_t * (q_s * inverse), sign_t * (e_s * (inverse * inverse))


@compiled
def _pair_diffkendall(t_i, dt_i, s_i, ds_i, t_j, dt_j, s_j, ds_j, scale, one, limit):
    delta_t = t_i - t_j
    x = min(max(scale * (delta_t * (s_i - s_j)), -limit), limit)
    q, e = exp2(x)
    inverse = one / (q + one + one)
    # A teacher's difference may be so large that even the last of tanh's tail counts.
    tail = e * (inverse * inverse) if abs(x) < limit else one - one
    return q * inverse, delta_t * tail


def _make_all_pairs(pair):
    @compiled
    def all_pairs(table, scale, one, limit, strip_slope, slope, num_classes):
        """Adds to ``slope`` a quarter of each class's sum; returns the sum over the pairs i < j.

        ``table`` is (5, C + LANES): t, dt, s, ds as ``pair`` takes them, and 1 for a class, 0 for
        the padding, which takes part in the loops so that they leave no remainder.
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
                counts = table[4, i + 1 : i + 1 + padded]
                mirror = strip_slope[i + 1 : i + 1 + padded]
                value_i = zero
                slope_i = zero
                for j in range(padded):
                    value, change = pair(
                        t_i, dt_i, s_i, ds_i, t[j], dt[j], s[j], ds[j], scale, one, limit
                    )
                    value_i += value * counts[j]
                    slope_i += change * counts[j]
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
def _fill_ratio(logits, lowest, highest, scale, ratio, difference):
    """a = exp(2k (x - middle)), and what to subtract from what: a - 1 where all a are near 1."""
    middle = (lowest + highest) / 2
    near_one = scale * (highest - lowest) < 1.0
    for i in range(logits.shape[0]):
        less_one, grown = exp2(scale * (np.float64(logits[i]) - middle))
        ratio[i] = grown
        difference[i] = less_one if near_one else grown


@compiled
def dense_rows(
    preds_S, preds_T, steepness, surrogate, rows, need_grad, need_value, weight, loss, grad
):
    """Every pair of classes: any input, O(C^2)."""
    num_classes = preds_S.shape[1]
    table = np.zeros((5, num_classes + LANES), preds_S.dtype)
    table[4, :num_classes] = 1.0
    strip_slope = np.empty(num_classes + LANES, preds_S.dtype)
    sums = np.empty(num_classes, np.float64)
    scale64 = 2.0 * steepness / math.log(2.0)
    pairs = num_classes * (num_classes - 1) / 2
    factor = -4.0 * steepness * weight / pairs
    one, limit, scale = constants(preds_S, scale64)
    for row in rows:
        s, t = preds_S[row], preds_T[row]
        sums[:] = 0.0
        if surrogate == PRODUCT:
            min_S, max_S, min_T, max_T = logit_ranges(s, t)
            if steepness * max(max_S - min_S, max_T - min_T) <= RATIO_RANGE:
                _fill_ratio(t, min_T, max_T, scale64, table[0], table[1])
                _fill_ratio(s, min_S, max_S, scale64, table[2], table[3])
                table[0, num_classes:] = one
                table[2, num_classes:] = one
                value = _all_pairs_ratio(table, scale, one, limit, strip_slope, sums, num_classes)
            else:
                table[0, :num_classes] = t
                table[2, :num_classes] = s
                value = _all_pairs_product(
                    table, scale, one, limit, strip_slope, sums, num_classes
                )
        else:
            table[0, :num_classes] = t
            table[2, :num_classes] = s
            if surrogate == HARD_TEACHER:
                value = _all_pairs_hard_teacher(
                    table, scale, one, limit, strip_slope, sums, num_classes
                )
            else:
                value = _all_pairs_diffkendall(
                    table, scale, one, limit, strip_slope, sums, num_classes
                )
        loss[row] = 1.0 - value / pairs if need_value else 0.0
        if need_grad:
            for i in range(num_classes):
                grad[row, i] = factor * sums[i]

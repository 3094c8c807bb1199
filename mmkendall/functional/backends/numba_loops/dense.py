"""All pairs of classes: any input, O(C^2)."""

from __future__ import annotations

import math

import numpy as np

from mmkendall.functional.backends.numba_loops.basics import (
    compiled,
    constants,
    entry,
    exp2,
    fill,
    logit_ranges,
)
from mmkendall.functional.backends.numba_loops.pairs import (
    BLOCK,
    diffkendall,
    hard_teacher,
    make_near_pairs,
    product,
    product_ratio,
)

# k times the range of the logits: up to the highest, products of four exp(2ks) stay inside
# float32; under the lowest, their differences lose digits.
LOWEST_RATIO, HIGHEST_RATIO = 0.5, 28.0

_products, _ratios = make_near_pairs(product), make_near_pairs(product_ratio)
_hard_teachers, _diffkendalls = make_near_pairs(hard_teacher), make_near_pairs(diffkendall)


@compiled
def _exponentials(logits, lowest, highest, steepness):
    """exp(2k (x - middle))."""
    exps = np.empty_like(logits)
    for i in range(logits.shape[0]):
        x = np.float64(logits[i]) - (lowest + highest) / 2
        exps[i] = exp2(2.0 * steepness / math.log(2.0) * x)[1]
    return exps


@compiled
def _products_by_range(s, t, width, order, numbers, changes, slope, mirror):
    """By ratios where they hold."""
    min_S, max_S, min_T, max_T = logit_ranges(s, t)
    steepness = numbers[2] * math.log(2.0) / 2
    narrow = steepness * min(max_S - min_S, max_T - min_T)
    wide = steepness * max(max_S - min_S, max_T - min_T)
    if narrow < LOWEST_RATIO or wide > HIGHEST_RATIO:
        return _products(s, t, width, order, numbers, changes, slope, mirror)
    exps_S = _exponentials(s, min_S, max_S, steepness)
    exps_T = _exponentials(t, min_T, max_T, steepness)
    return _ratios(exps_S, exps_T, width, order, numbers, changes, slope, mirror)


def _make_rows(all_pairs):
    @compiled
    def dense_rows(preds_S, preds_T, steepness, rows, need_grad, need_value, weight, loss, grad):
        count = preds_S.shape[1]
        changes, slope = np.empty(BLOCK, preds_S.dtype), np.empty(count, preds_S.dtype)
        mirror = np.empty(count, preds_S.dtype)
        numbers = constants(preds_S, steepness)
        nothing = numbers[0] - numbers[0]
        pairs = count * (count - 1) / 2
        factor = -4.0 * steepness * weight / pairs
        for row in rows:
            fill(slope, 0)
            fill(mirror, 0)
            value = all_pairs(
                *(preds_S[row], preds_T[row], np.inf, nothing, numbers, changes, slope, mirror)
            )
            loss[row] = 1.0 - value / pairs if need_value else 0.0
            if need_grad:
                for i in range(count):
                    grad[row, i] = factor * (slope[i] - mirror[i])

    return dense_rows


_product_rows, _hard_teacher_rows = _make_rows(_products_by_range), _make_rows(_hard_teachers)
_diffkendall_rows = _make_rows(_diffkendalls)


@entry
def product_rows(*args):
    _product_rows(*args)


@entry
def hard_teacher_rows(*args):
    _hard_teacher_rows(*args)


@entry
def diffkendall_rows(*args):
    _diffkendall_rows(*args)

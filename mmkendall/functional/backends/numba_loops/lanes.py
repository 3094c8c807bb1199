"""All pairs of classes of eight rows at once, one row in each lane of a vector.

For few classes: no loop over classes is then too short, none leaves a remainder, and nothing is
summed across lanes. With z = 2 k x / log(2) split into an integer e and a rest, exp(2kx) is a part
of about 1 times 2**e, so a pair costs a clamp and an addition to exponents where it would cost an
exponential, whatever k is. Where k times both ranges is small, the exponentials serve as they are.
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
from mmkendall.functional.backends.numba_loops.dense import RATIO_RANGE
from mmkendall.functional.backends.numba_loops.vectors import pairs_with, ratios_with

# Classes whose tables stay in the first-level cache.
STRIP = 128


@compiled
def _join(powers, parts, middle):
    """Turns ``parts`` into exp(2k (x - middle of its lane)); ``middle`` (8,) is a power of two."""
    bits = parts.view(np.int32)
    for first in range(0, bits.shape[0], LANES):
        own_bits, own_powers = bits[first : first + LANES], powers[first : first + LANES]
        for lane in range(LANES):
            own_bits[lane] += (own_powers[lane] - middle[lane]) << np.int32(23)


@compiled
def lanes_rows(
    preds_S, preds_T, steepness, surrogate, rows, need_grad, need_value, weight, loss, grad
):
    """Every pair of classes, eight rows at once; ``product`` in float32, k times |logit| < 1e8."""
    count = preds_S.shape[1]
    logits = np.empty(count * LANES, np.float32)
    powers_T, parts_T = np.empty(count * LANES, np.int32), np.empty(count * LANES, np.float32)
    powers_S, parts_S = np.empty(count * LANES, np.int32), np.empty(count * LANES, np.float32)
    middle_T, middle_S = np.empty(LANES, np.int32), np.empty(LANES, np.int32)
    slopes = np.empty(count * LANES, np.float32)
    strip_totals, totals = np.empty(LANES, np.float32), np.empty(LANES, np.float64)
    scale = 2.0 * steepness / math.log(2.0)
    pairs = count * (count - 1) / 2
    factor = np.float32(-4.0 * steepness * weight / pairs)
    for first in range(0, rows.shape[0], LANES):
        # The last row stands in for those that are missing.
        last = min(LANES, rows.shape[0] - first) - 1
        widest = 0.0
        for lane in range(LANES):
            row = rows[first + min(lane, last)]
            min_S, max_S, min_T, max_T = logit_ranges(preds_S[row], preds_T[row])
            middle_S[lane] = np.int32((min_S + max_S) / 2 * scale)
            middle_T[lane] = np.int32((min_T + max_T) / 2 * scale)
            widest = max(widest, steepness * max(max_S - min_S, max_T - min_T))
        for preds, powers, parts, middle in (
            (preds_T, powers_T, parts_T, middle_T),
            (preds_S, powers_S, parts_S, middle_S),
        ):
            for lane in range(LANES):
                x = preds[rows[first + min(lane, last)]]
                for i in range(count):
                    logits[i * LANES + lane] = x[i]
            split_exponent(logits, scale, powers, parts)
            if widest <= RATIO_RANGE:
                _join(powers, parts, middle)
        slopes[:] = np.float32(0)
        totals[:] = 0.0
        for start in range(0, count, STRIP):
            stop = min(start + STRIP, count)
            for i in range(stop - 1):
                strip_totals[:] = np.float32(0)
                after = max(i + 1, start)
                if widest <= RATIO_RANGE:
                    ratios_with(parts_T, parts_S, slopes, strip_totals, i, after, stop)
                else:
                    pairs_with(
                        *(powers_T, parts_T, powers_S, parts_S, slopes, strip_totals),
                        *(i, after, stop),
                    )
                totals += strip_totals
        if widest <= RATIO_RANGE:
            slopes *= parts_S
        for lane in range(last + 1):
            row = rows[first + lane]
            loss[row] = 1.0 - totals[lane] / pairs if need_value else 0.0
            if need_grad:
                for i in range(count):
                    grad[row, i] = factor * slopes[i * LANES + lane]

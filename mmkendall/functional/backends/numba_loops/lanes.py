"""All pairs of classes of eight rows at once, one row in each lane of a vector.

For few classes: no loop over classes is then too short, none leaves a remainder, and nothing is
summed across lanes. With z = 2 k x / log(2) split into an integer e and a rest, exp(2kx) is a part
of about 1 times 2**e, so a pair costs a clamp and an addition to exponents where it would cost an
exponential, whatever k is.
"""

from __future__ import annotations

import math

import numpy as np

from mmkendall.functional.backends.numba_loops.basics import (
    LANES,
    compiled,
    split_exponent,
)
from mmkendall.functional.backends.numba_loops.vectors import pairs_with

# Classes whose tables stay in the first-level cache.
STRIP = 128


@compiled
def lanes_rows(
    preds_S, preds_T, steepness, surrogate, rows, need_grad, need_value, weight, loss, grad
):
    """Every pair of classes, eight rows at once; ``product`` in float32, k times |logit| < 1e8."""
    count = preds_S.shape[1]
    logits = np.empty(count * LANES, np.float32)
    powers_T, parts_T = np.empty(count * LANES, np.int32), np.empty(count * LANES, np.float32)
    powers_S, parts_S = np.empty(count * LANES, np.int32), np.empty(count * LANES, np.float32)
    slopes = np.empty(count * LANES, np.float32)
    strip_totals, totals = np.empty(LANES, np.float32), np.empty(LANES, np.float64)
    scale = 2.0 * steepness / math.log(2.0)
    pairs = count * (count - 1) / 2
    factor = np.float32(-4.0 * steepness * weight / pairs)
    for first in range(0, rows.shape[0], LANES):
        # The last row stands in for those that are missing.
        last = min(LANES, rows.shape[0] - first) - 1
        for preds, powers, parts in ((preds_T, powers_T, parts_T), (preds_S, powers_S, parts_S)):
            for lane in range(LANES):
                x = preds[rows[first + min(lane, last)]]
                for i in range(count):
                    logits[i * LANES + lane] = x[i]
            split_exponent(logits, scale, powers, parts)
        slopes[:] = np.float32(0)
        totals[:] = 0.0
        for start in range(0, count, STRIP):
            stop = min(start + STRIP, count)
            for i in range(stop - 1):
                strip_totals[:] = np.float32(0)
                pairs_with(
                    powers_T,
                    parts_T,
                    powers_S,
                    parts_S,
                    slopes,
                    strip_totals,
                    i,
                    max(i + 1, start),
                    stop,
                )
                totals += strip_totals
        for lane in range(last + 1):
            row = rows[first + lane]
            loss[row] = 1.0 - totals[lane] / pairs if need_value else 0.0
            if need_grad:
                for i in range(count):
                    grad[row, i] = factor * slopes[i * LANES + lane]

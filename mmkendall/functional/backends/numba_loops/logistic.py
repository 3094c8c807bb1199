"""The logistic surrogate: two sorts and a few running sums, whatever the logits are.

``backends/logistic.py`` derives the sums.
"""

from __future__ import annotations

import math

import numpy as np

from mmkendall.functional.backends.logistic import TERMS, coefficients
from mmkendall.functional.backends.numba_loops.basics import compiled, entry, exp2, fill
from mmkendall.functional.backends.numba_loops.order import argsort


def _weights(terms):
    """(2, terms): what each power of z counts in the slope and in the value."""
    slope = np.array(coefficients(terms))
    return np.stack([slope, slope / np.arange(1, terms + 1)])


WEIGHTS, WEIGHTS_DOUBLE = _weights(TERMS[False]), _weights(TERMS[True])


@compiled
def _add_running_sums(z, sign, weights, running, slopes):
    """Adds ``sign`` times each class's sum over those before it less that over those after it.

    ``z[i]`` is exp(-distance) of a class and the one before it; the first is 0. Returns ``sign``
    times the sum of log(1 + exp(-distance)) over all pairs.
    """
    count, terms = z.shape[0], weights.shape[1]
    of_slope, of_value = weights[0], weights[1]
    total = 0.0
    fill(running, 0.0)
    for i in range(count):
        power, slope, value = 1.0, 0.0, 0.0
        for m in range(terms):
            power *= z[i]
            running[m] = (running[m] + 1.0) * power
            slope += of_slope[m] * running[m]
            value += of_value[m] * running[m]
        slopes[i] += sign * slope
        total += value
    fill(running, 0.0)
    for i in range(count - 1, 0, -1):
        power, slope = 1.0, 0.0
        for m in range(terms):
            power *= z[i]
            running[m] = (running[m] + 1.0) * power
            slope += of_slope[m] * running[m]
        slopes[i - 1] -= sign * slope
    return sign * total


@entry
def logistic_rows(preds_S, preds_T, steepness, rows, need_grad, need_value, weight, loss, grad):
    count = preds_S.shape[1]
    weights = WEIGHTS if preds_S.itemsize == 4 else WEIGHTS_DOUBLE
    running = np.empty(weights.shape[1], np.float64)
    order, places = np.empty(count, np.int32), np.empty(count, np.int32)
    t, ordered = np.empty(count, preds_S.dtype), np.empty(count, preds_S.dtype)
    table = np.empty((4, count), np.float64)
    s, z, slopes, tied_slopes = table[0], table[1], table[2], table[3]
    pairs = count * (count - 1) / 2
    scale, factor = steepness / math.log(2.0), -steepness * weight / pairs
    total = 0.0
    for row in rows:
        argsort(preds_S[row], order, ordered)
        for i in range(count):
            s[i], t[i] = ordered[i], preds_T[row, order[i]]
        # A class is its place in s from here on; classes that are tied in t stay in that order.
        argsort(t, places, ordered)
        z[0] = 0.0
        for i in range(1, count):
            z[i] = exp2(max((s[i - 1] - s[i]) * scale, -999.0))[1]
        fill(slopes, 0.0)
        value = _add_running_sums(z, 1.0, weights, running, slopes)
        # Pairs that are tied in t are taken off again.
        is_tied = False
        for i in range(1, count):
            before, own = places[i - 1], places[i]
            z[i] = 0.0
            if ordered[i - 1] == ordered[i]:
                z[i] = exp2(max((s[before] - s[own]) * scale, -999.0))[1]
                is_tied = True
        fill(tied_slopes, 0.0)
        if is_tied:
            value += _add_running_sums(z, -1.0, weights, running, tied_slopes)
        if need_grad:
            for i in range(count):
                own = places[i]
                change = np.float64(i - own) + (slopes[own] + tied_slopes[i])
                grad[row, order[own]] = factor * change
        if need_value:
            for i in range(count):
                value += steepness * (s[places[i]] - s[0]) * np.float64(places[i] - i)
        loss[row] = value / pairs if need_value else 0.0
        total += loss[row]
    return total

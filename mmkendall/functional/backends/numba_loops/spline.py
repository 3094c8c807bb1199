"""B-splines for tanh, of a degree d: d + 1 taps.

tanh(x - y) = sum_pq B(x / STEP - p) c[p - q] B(y / STEP - q), in units of k times a logit. The
error is 2e-6 at most for degree 5 and 2e-7 for degree 7, and 2e-6 in the derivative for degree 7.
"""

from __future__ import annotations

import math

import numpy as np

from mmkendall.functional.backends.numba_loops.basics import compiled

STEP = 0.25
DEGREE = 7
# tanh is +-1 to within 1e-8 at more than this many nodes.
REACH = 40
# Of a filter that undoes the spline's smoothing; its weights fall by two thirds from tap to tap.
MARGIN = 100


def pieces_of(degree):
    """(d + 1, d + 1): row m holds, for each of the taps, the coefficient of f^m, f in [0, 1)."""
    pieces = np.zeros((degree + 1, degree + 1))
    for tap in range(degree + 1):
        for knot in range(degree + 1 - tap):
            # (f + shift)_+^d with a knot at each integer.
            shift = degree - tap - knot
            weight = (-1) ** knot * math.comb(degree + 1, knot) / math.factorial(degree)
            for power in range(degree + 1):
                pieces[power, tap] += (
                    weight * math.comb(degree, power) * float(shift) ** (degree - power)
                )
    return pieces


def tanh_kernel(degree):
    """c[n] for -REACH <= n <= REACH: samples of tanh with the smoothing of two splines undone."""
    period = 512
    smoothing = np.zeros(period)
    for tap, weight in enumerate(pieces_of(degree)[0]):
        smoothing[(tap - degree // 2) % period] += weight
    undo = np.fft.fftshift(np.fft.ifft(np.fft.fft(smoothing) ** -2.0).real)
    undo = undo[period // 2 - MARGIN : period // 2 + MARGIN + 1]
    samples = np.tanh(STEP * np.arange(-REACH - MARGIN, REACH + MARGIN + 1))
    return np.convolve(samples, undo, 'valid')


def _slopes(pieces):
    """Their derivatives with respect to f."""
    return np.arange(1, len(pieces))[:, None] * pieces[1:]


def _above(pieces):
    """For each tap the sum of the taps after it."""
    return np.flip(np.cumsum(np.flip(pieces, 1), 1), 1) - pieces


@compiled
def locate(logit, lowest, scale):
    """The node at or below a logit, and how far the logit lies above it, in [0, 1)."""
    position = (np.float64(logit) - lowest) * scale
    node = np.int64(position)
    return node, np.float32(position - node)


PIECES = pieces_of(DEGREE)
PIECES_SLOPE = _slopes(PIECES)
PIECES_SLOPE_ABOVE = _slopes(_above(PIECES))

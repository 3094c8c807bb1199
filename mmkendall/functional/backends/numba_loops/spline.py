"""B-splines of degree 7 for tanh: 8 taps and, with ``STEP``, 5e-7 of error in its derivative.

tanh(x - y) = sum_pq B(x / STEP - p) c[p - q] B(y / STEP - q), in units of k times a logit.
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


def _pieces():
    """(8, 8): row m holds, for each of the 8 taps, the coefficient of f^m, f in [0, 1)."""
    pieces = np.zeros((DEGREE + 1, DEGREE + 1))
    for tap in range(DEGREE + 1):
        for knot in range(DEGREE + 1 - tap):
            # (f + shift)_+^7 with a knot at each integer.
            shift = DEGREE - tap - knot
            weight = (-1) ** knot * math.comb(DEGREE + 1, knot) / math.factorial(DEGREE)
            for power in range(DEGREE + 1):
                pieces[power, tap] += (
                    weight * math.comb(DEGREE, power) * float(shift) ** (DEGREE - power)
                )
    return pieces


def unsmoothing(times):
    """(2 MARGIN + 1,): undoes the smoothing of ``times`` splines on samples."""
    period = 512
    smoothing = np.zeros(period)
    for tap, weight in enumerate(_pieces()[0]):
        smoothing[(tap - DEGREE // 2) % period] += weight
    undo = np.fft.fftshift(np.fft.ifft(np.fft.fft(smoothing) ** -float(times)).real)
    return undo[period // 2 - MARGIN : period // 2 + MARGIN + 1]


def tanh_kernel():
    """c[n] for -REACH <= n <= REACH: samples of tanh with the smoothing of two splines undone."""
    samples = np.tanh(STEP * np.arange(-REACH - MARGIN, REACH + MARGIN + 1))
    return np.convolve(samples, unsmoothing(2), 'valid')


def _slopes(pieces):
    """Their derivatives with respect to f, a row of zeros for f^7."""
    powers = np.arange(1, DEGREE + 1)[:, None]
    return np.concatenate([powers * pieces[1:], np.zeros((1, DEGREE + 1))])


def _above(pieces):
    """For each tap the sum of the taps after it."""
    return np.flip(np.cumsum(np.flip(pieces, 1), 1), 1) - pieces


@compiled
def locate(logit, lowest, scale):
    """The node at or below a logit, and how far the logit lies above it, in [0, 1)."""
    position = (np.float64(logit) - lowest) * scale
    node = np.int64(position)
    return node, np.float32(position - node)


PIECES = _pieces().astype(np.float32)
PIECES_ABOVE = _above(_pieces()).astype(np.float32)
PIECES_SLOPE = _slopes(_pieces()).astype(np.float32)
PIECES_SLOPE_ABOVE = _slopes(_above(_pieces())).astype(np.float32)

"""Tanh of differences by way of nodes, which lie ``STEP`` apart in units of k times a logit.

Each logit counts at ``TAPS`` nodes around it, with weights w that depend on where it lies between
two of them:

tanh(x - y) = sum_pq w(x / STEP - p) c[p - q] w(y / STEP - q).

The kernel c depends on the distance of two nodes alone, so that the sum over all y is a
convolution. w is the exponential of a semicircle of Barnett, Magland and af Klinteberg, "A
parallel nonuniform fast Fourier transform library based on an 'exponential of semicircle' kernel"
(SIAM Journal on Scientific Computing, 2019), as polynomials. The derivative by x has weights of
its own, for how much the sum over q rises from node to node. In float32 the error is 2e-7 at most,
and 4e-7 in the derivative.
"""

from __future__ import annotations

import numpy as np

from mmkendall.functional.backends.numba_loops.basics import compiled

STEP = 0.25
TAPS = 8
DEGREE = 7
# The exponent of w at its centre.
SHARPNESS = 17.0
# tanh is +-1 to within 1e-8 at more than this many nodes.
REACH = 40
# Where w lets through less than this of a frequency, c leaves it out: it would ring.
DAMPING = 0.01

_taps = np.arange(TAPS)
_value_at = np.polynomial.polynomial.polyval


def _polynomials(f, values):
    """(DEGREE + 1, n): row m holds the coefficients of f^m, for ``values`` (f, n)."""
    return np.polynomial.polynomial.polyfit(f, values, DEGREE)


def _between(count):
    """Places in (0, 1), denser at the ends, where polynomials err most."""
    return (1 - np.cos(np.pi * (np.arange(count) + 0.5) / count)) / 2


def _weights(f):
    """(f, TAPS): w at the nodes from 3 before to 4 after one that lies f before a class."""
    x = (f[:, None] + TAPS // 2 - 1 - _taps) / (TAPS / 2)
    weights = np.exp(SHARPNESS * (np.sqrt(1 - x * x) - 1))
    return weights / weights.sum(1, keepdims=True)


def _tanh_kernel():
    """c[n] for -REACH <= n <= REACH: samples of tanh with the smoothing by w twice undone."""
    margin = 511
    f = (np.arange(64) + 0.5) / 64
    frequencies = 2 * np.pi * np.fft.fftfreq(2 * margin + 2)
    passed = np.mean(
        [
            np.cos(np.outer(frequencies, x + TAPS // 2 - 1 - _taps)) @ weights
            for x, weights in zip(f, _value_at(f, PIECES).T, strict=True)
        ],
        axis=0,
    )
    undo = np.fft.ifft(passed**2 / (passed**4 + DAMPING**4)).real
    samples = np.tanh(STEP * np.arange(-REACH - margin, REACH + margin + 1))
    return np.convolve(samples, np.fft.fftshift(undo)[1:], 'valid')


def _slope_pieces():
    """(DEGREE + 1, TAPS - 1): polynomials in f whose sum with the rises is the derivative by f.

    By least squares over all that another class may be away.
    """
    others = (np.arange(32) + 0.5) / 32
    first = np.arange(-REACH - TAPS // 2, REACH + TAPS // 2 + 1)
    nodes = np.arange(first[0], first[-1] + TAPS - 1)
    rises = sum(
        np.multiply.outer(weights, rise_at(nodes - tap))
        for tap, weights in enumerate(_value_at(others, PIECES))
    )
    rises = np.stack([rises[:, tap : tap + len(first)].ravel() for tap in _taps[:-1]], 1)
    f = _between(32)
    away = STEP * (first[:, None] + f - others[:, None, None])
    slopes = (STEP / np.cosh(away) ** 2).reshape(-1, len(f))
    return _polynomials(f, np.linalg.lstsq(rises, slopes, rcond=None)[0].T)


def kernel_at(n):
    """c[n] for any n."""
    return np.where(abs(n) > REACH, np.sign(n), KERNEL[np.clip(n + REACH, 0, 2 * REACH)])


def rise_at(n):
    """c[n + 1] - c[n] for any n."""
    return kernel_at(n + 1) - kernel_at(n)


PIECES = _polynomials(_between(64), _weights(_between(64)))
KERNEL = _tanh_kernel()
PIECES_SLOPE = _slope_pieces()
VALUE_PIECES, SLOPE_PIECES = PIECES.astype(np.float32), PIECES_SLOPE.astype(np.float32)


@compiled
def count_nodes(scaled_range):
    """Along one axis; ``scaled_range`` is k times the logits'."""
    return int(scaled_range / STEP) + TAPS + 1


@compiled
def locate(logits, lowest, scale, step, nodes, weights):
    """Adds ``step`` for each node up to the one at or below a logit, and keeps what is above it.

    That is in [0, 1) and goes behind the weights (TAPS + 1, n), which ``weigh`` writes.
    """
    rests = weights[TAPS]
    for i in range(logits.shape[0]):
        position = (np.float64(logits[i]) - lowest) * scale
        nodes[i] += step * np.int64(position)
        rests[i] = np.float32(position - np.int64(position))


@compiled
def weigh(count, pieces, weights):
    """The weights of ``count`` logits at the nodes around that below them."""
    rests = weights[TAPS]
    for tap in range(pieces.shape[1]):
        of_tap = weights[tap]
        for i in range(count):
            weight = pieces[DEGREE, tap]
            for power in range(DEGREE - 1, -1, -1):
                weight = weight * rests[i] + pieces[power, tap]
            of_tap[i] = weight

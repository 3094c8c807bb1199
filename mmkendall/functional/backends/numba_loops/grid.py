"""The classes on a grid over (teacher, student): O(C), and a convolution of the grid.

The classes are spread on the nodes by splines, both tanh become convolutions along the two axes,
and the gradient is read off where the classes are.
"""

from __future__ import annotations

import numpy as np

from mmkendall.functional.backends.numba_loops.basics import LANES, compiled, logit_ranges
from mmkendall.functional.backends.numba_loops.spline import (
    DEGREE,
    MARGIN,
    PIECES,
    PIECES_SLOPE,
    REACH,
    STEP,
    locate,
    unsmoothing,
)
from mmkendall.functional.backends.numba_loops.vectors import (
    CONVOLVED,
    convolve_lanes,
    gather_patch,
    spread_patch,
)


def _kernel():
    """c[n] for -REACH <= n <= REACH: samples of tanh with the smoothing of two splines undone."""
    samples = np.tanh(STEP * np.arange(-REACH - MARGIN, REACH + MARGIN + 1))
    return np.convolve(samples, unsmoothing(2), 'valid').astype(np.float32)


KERNEL = _kernel()
# In the order of the nodes that it is multiplied with.
TAIL_KERNEL = np.flip(KERNEL - np.sign(np.arange(-REACH, REACH + 1))).astype(np.float32)


@compiled
def grid_size(logit_range, steepness):
    """Nodes along one axis, a multiple of ``LANES``."""
    nodes = int(logit_range * steepness / STEP) + DEGREE + 2
    return (nodes + LANES - 1) // LANES * LANES


@compiled
def spread_rows(preds_S, preds_T, steepness, rows, all_rows, grid):
    """Adds the 8 x 8 weights of the classes in ``rows``; ``grid[i]`` is for ``all_rows[i]``."""
    width = grid.shape[2]
    scale = steepness / STEP
    for index in range(rows.shape[0]):
        s, t = preds_S[rows[index]], preds_T[rows[index]]
        nodes = grid[np.searchsorted(all_rows, rows[index])].reshape(-1)
        min_S, _, min_T, _ = logit_ranges(s, t)
        for i in range(s.shape[0]):
            (y, y_rest), (x, x_rest) = locate(t[i], min_T, scale), locate(s[i], min_S, scale)
            first = y * width + x
            spread_patch(nodes, first, width, y_rest, x_rest, PIECES, PIECES)


@compiled
def gather_rows(preds_S, preds_T, steepness, rows, all_rows, field, grad):
    """Writes the gradient, the derivative of a spline; ``field[i]`` is for ``all_rows[i]``."""
    count = preds_S.shape[1]
    width = field.shape[2]
    scale = steepness / STEP
    factor = np.float32(-2.0 * steepness / (count * (count - 1)) / STEP)
    for index in range(rows.shape[0]):
        s, t = preds_S[rows[index]], preds_T[rows[index]]
        nodes = field[np.searchsorted(all_rows, rows[index])].reshape(-1)
        out = grad[rows[index]]
        min_S, _, min_T, _ = logit_ranges(s, t)
        for i in range(count):
            (y, y_rest), (x, x_rest) = locate(t[i], min_T, scale), locate(s[i], min_S, scale)
            first = y * width + x
            out[i] = factor * gather_patch(
                nodes, first, width, y_rest, x_rest, PIECES, PIECES_SLOPE
            )


def convolution_matrix(num_nodes):
    """(nodes, nodes) float32: c[p - q], +-1 beyond ``REACH``."""
    beyond = np.ones(max(0, num_nodes - 1 - REACH), np.float32)
    kernel = np.concatenate([-beyond, KERNEL, beyond])
    middle = len(kernel) // 2
    kernel = kernel[middle - num_nodes + 1 : middle + num_nodes]
    windows = np.lib.stride_tricks.sliding_window_view(kernel[::-1], num_nodes)
    return np.ascontiguousarray(windows[::-1])


@compiled
def convolve(grid, field):
    """Both convolutions of one ``grid``, for more nodes than a matrix product is good for.

    The kernel less its sign has but ``TAIL_KERNEL``; the sign is a matter of running sums.
    """
    height, width = grid.shape
    padded = np.zeros((height + 2 * REACH, CONVOLVED), np.float32)
    flat = padded.reshape(-1)
    sums, out = np.empty(CONVOLVED, np.float64), np.empty(CONVOLVED, np.float32)
    for start in range(0, width, CONVOLVED):
        size = min(CONVOLVED, width - start)
        sums[:] = 0.0
        for p in range(height):
            padded[REACH + p, :size] = grid[p, start : start + size]
            sums -= padded[REACH + p]
        for p in range(height):
            if p > 0:
                sums += padded[REACH + p - 1]
            sums += padded[REACH + p]
            out[:] = sums
            convolve_lanes(flat, p * CONVOLVED, CONVOLVED, TAIL_KERNEL, out, 0)
            field[p, start : start + size] = out[:size]
    # Past the end, so that the last 64 are as many as the others.
    line = np.zeros(width + 2 * REACH + CONVOLVED, np.float32)
    result = np.empty(width + CONVOLVED, np.float32)
    for p in range(height):
        line[REACH : REACH + width] = field[p]
        total = 0.0
        for n in range(width):
            total -= line[REACH + n]
        for n in range(width):
            if n > 0:
                total += line[REACH + n - 1]
            total += line[REACH + n]
            result[n] = total
        for start in range(0, width, CONVOLVED):
            convolve_lanes(line, start, 1, TAIL_KERNEL, result, start)
        field[p] = result[:width]

"""The classes on a grid over (teacher, student): O(C), and a convolution of the grid.

The classes are spread on the nodes by splines, both tanh become convolutions along the two axes,
and the gradient is read off where the classes are.
"""

from __future__ import annotations

import numpy as np

from mmkendall.functional.backends.numba_loops.basics import LANES, compiled, logit_ranges
from mmkendall.functional.backends.numba_loops.spline import (
    DEGREE,
    PIECES,
    PIECES_SLOPE,
    REACH,
    STEP,
    locate,
    tanh_kernel,
)
from mmkendall.functional.backends.numba_loops.vectors import (
    CONVOLVED,
    convolve_lanes,
    gather_patch,
    mirror_sums,
    spread_patch,
    tall_tile,
    wide_tile,
)

# Along one axis; more nodes are convolved one after the other.
MAX_FOLDED = 256


KERNEL = tanh_kernel().astype(np.float32)
# In the order of the nodes that it is multiplied with.
TAIL_KERNEL = np.flip(KERNEL - np.sign(np.arange(-REACH, REACH + 1))).astype(np.float32)


@compiled
def grid_size(logit_range, steepness):
    """Nodes along one axis, a multiple of ``2 * LANES``."""
    nodes = int(logit_range * steepness / STEP) + DEGREE + 2
    return (nodes + 2 * LANES - 1) // (2 * LANES) * (2 * LANES)


@compiled
def _locate_all(logits, lowest, scale, places, rests):
    for i in range(logits.shape[0]):
        places[i], rests[i] = locate(logits[i], lowest, scale)


@compiled
def _start_of_halves(size):
    """Where the matrices for ``size`` nodes begin among those of all sizes."""
    number = size // (2 * LANES) - 1
    return 2 * LANES**2 * (number * (number + 1) * (2 * number + 1) // 6)


@compiled
def _fill_halves(halves, size):
    """(2, m, m), m = size / 2: transposed, the convolution on even and on odd halves of nodes.

    What is even about the middle becomes odd, and odd becomes even.
    """
    m = size // 2
    half = np.float32(0.5)
    for q in range(m):
        for p in range(m):
            near, far = _kernel_at(p - q), _kernel_at(p + q + 1 - size)
            halves[q * m + p] = half * (near + far)
            halves[(m + q) * m + p] = half * (near - far)


@compiled
def _kernel_at(n):
    if n > REACH:
        return np.float32(1)
    if n < -REACH:
        return np.float32(-1)
    return KERNEL[n + REACH]


@compiled
def _fold(lines, folded):
    """Sums of mirrored lines in the upper half, differences in the lower one, from below."""
    count = lines.shape[0]
    for p in range(count // 2):
        upper, lower = lines[p], lines[count - 1 - p]
        even, odd = folded[p], folded[count - 1 - p]
        for x in range(lines.shape[1]):
            first, second = upper[x], lower[x]
            even[x] = first + second
            odd[x] = first - second


@compiled
def _convolve_lines(folded, halves, out):
    """Along the folded lines: ``out`` (columns, lines) gets the odd half before the even one."""
    lines, columns = folded.shape
    m = lines // 2
    a, c = folded.reshape(-1), out.reshape(-1)
    for part in range(2):
        a_first, a_step = (0, columns) if part == 0 else ((lines - 1) * columns, -columns)
        for column in range(0, m, 2 * LANES):
            b_first = part * m * m + column
            c_first = part * m + column
            if column + LANES < m:
                for row in range(0, columns, LANES // 2):
                    wide_tile(
                        *(a, a_first + row, a_step, halves, b_first, m),
                        *(c, c_first + row * lines, lines, m),
                    )
            else:
                for row in range(0, columns, LANES):
                    tall_tile(
                        *(a, a_first + row, a_step, halves, b_first, m),
                        *(c, c_first + row * lines, lines, m),
                    )


@compiled
def _convolve_folded(grid, halves_T, halves_S, between, field):
    """Both convolutions, as products of matrices of a quarter of the size.

    ``between`` has the size of ``grid`` and is overwritten.
    """
    height, width = grid.shape
    turned = field.reshape(width, height)
    _fold(grid, between)
    _convolve_lines(between, halves_T, turned)
    _fold(turned, turned)
    _convolve_lines(turned, halves_S, between)
    # Odd halves before even ones, along both axes.
    tall, broad = height // 2, width // 2
    above, below = np.empty(width, np.float32), np.empty(width, np.float32)
    for p in range(tall):
        odd, even = between[p], between[tall + p]
        for x in range(width):
            above[x] = even[x] + odd[x]
            below[x] = even[x] - odd[x]
        mirror_sums(above[:broad], above[broad:], field[p])
        mirror_sums(below[:broad], below[broad:], field[height - 1 - p])


@compiled
def _dot(a, b):
    total = np.float32(0)
    for n in range(a.shape[0]):
        total += a[n] * b[n]
    return total


@compiled
def grid_rows(
    preds_S, preds_T, steepness, surrogate, rows, need_grad, need_value, weight, loss, grad
):
    """With W the spread grid and c samples of tanh, Q = c W c^T: the agreement is <W, Q>, and the
    gradient is the derivative of Q's spline at the class.
    """
    count = preds_S.shape[1]
    places_T, places_S = np.empty(count, np.int64), np.empty(count, np.int64)
    rests_T, rests_S = np.empty(count, np.float32), np.empty(count, np.float32)
    halves = np.empty(_start_of_halves(MAX_FOLDED + 2 * LANES), np.float32)
    known = np.zeros(MAX_FOLDED + 1, np.bool_)
    buffers = np.empty((3, 0), np.float32)
    pairs = count * (count - 1) / 2
    factor = np.float32(-steepness * weight / (pairs * STEP))
    scale = steepness / STEP
    for row in rows:
        s, t = preds_S[row], preds_T[row]
        min_S, max_S, min_T, max_T = logit_ranges(s, t)
        height, width = grid_size(max_T - min_T, steepness), grid_size(max_S - min_S, steepness)
        is_folded = max(height, width) <= MAX_FOLDED
        if height * width > buffers.shape[1]:
            buffers = np.empty((3, height * width), np.float32)
        _locate_all(t, min_T, scale, places_T, rests_T)
        _locate_all(s, min_S, scale, places_S, rests_S)
        nodes = buffers[0, : height * width]
        nodes[:] = np.float32(0)
        for i in range(count):
            first = places_T[i] * width + places_S[i]
            spread_patch(nodes, first, width, rests_T[i], rests_S[i], PIECES, PIECES)

        grid, field = nodes.reshape(height, width), buffers[1, : height * width]
        if is_folded:
            for size in (height, width):
                if not known[size]:
                    known[size] = True
                    _fill_halves(halves[_start_of_halves(size) :], size)
            _convolve_folded(
                grid,
                halves[_start_of_halves(height) :],
                halves[_start_of_halves(width) :],
                buffers[2, : height * width].reshape(height, width),
                field.reshape(height, width),
            )
        else:
            convolve(grid, field.reshape(height, width))
        total = 0.0
        if need_value:
            for p in range(height):
                total += _dot(grid[p], field[p * width : (p + 1) * width])
        loss[row] = 1.0 - total / (2 * pairs) if need_value else 0.0
        if need_grad:
            out = grad[row]
            for i in range(count):
                first = places_T[i] * width + places_S[i]
                out[i] = factor * gather_patch(
                    field, first, width, rests_T[i], rests_S[i], PIECES, PIECES_SLOPE
                )


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

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
    pieces_of,
    tanh_kernel,
)
from mmkendall.functional.backends.numba_loops.vectors import (
    CONVOLVED,
    TILE_ROWS,
    convolve_lanes,
    make_gather_patch,
    make_spread_patch,
    mirror_sums,
    tile_1,
    tile_2,
    tile_3,
)

# Only values are read off along the teacher's axis, for which fewer taps will do.
DEGREE_T = 5
PIECES_T = pieces_of(DEGREE_T).astype(np.float32)
TAPS_T = DEGREE_T + 1
spread_patch = make_spread_patch(TAPS_T, PIECES)
gather_slope = make_gather_patch(TAPS_T, PIECES_SLOPE)
# By axis, the teacher's first.
KERNELS = np.stack([tanh_kernel(DEGREE_T), tanh_kernel(DEGREE)]).astype(np.float32)
# In the order of the nodes that it is multiplied with.
TAIL_KERNELS = np.flip(KERNELS - np.sign(np.arange(-REACH, REACH + 1)), 1).astype(np.float32)
# Along one axis; more nodes are convolved one after the other.
MAX_FOLDED = 256
# Classes whose places on the grid are found at once.
BLOCK = 1024


@compiled
def grid_size(scaled_range, degree):
    """Nodes along one axis that is read with a spline; ``scaled_range`` is k times the logits'."""
    return int(scaled_range / STEP) + degree + 2


@compiled
def _padded(size):
    """A multiple of ``2 * LANES``."""
    return (size + 2 * LANES - 1) // (2 * LANES) * (2 * LANES)


@compiled
def _place(s, t, corner, scale, width, firsts, rests_S, rests_T, weights):
    """Where the patch of each class begins, its weights along ``t``, and its rest along ``s``."""
    min_S, min_T, start = corner
    for i in range(s.shape[0]):
        row, rests_T[i] = locate(t[i], min_T, scale)
        column, rests_S[i] = locate(s[i], min_S, scale)
        firsts[i] = start + row * width + column
    for tap in range(TAPS_T):
        for i in range(s.shape[0]):
            f = rests_T[i]
            weight = PIECES_T[DEGREE_T, tap]
            for power in range(DEGREE_T - 1, -1, -1):
                weight = weight * f + PIECES_T[power, tap]
            weights[tap * BLOCK + i] = weight


@compiled
def _start_of_halves(size):
    """Where the matrices for ``size`` nodes begin among those of all sizes."""
    number = size // (2 * LANES) - 1
    return 2 * LANES**2 * (number * (number + 1) * (2 * number + 1) // 6)


@compiled
def _fill_halves(halves, size, axis):
    """(2, m, m), m = size / 2: transposed, the convolution on even and on odd halves of nodes.

    What is even about the middle becomes odd, and odd becomes even.
    """
    m = size // 2
    half = np.float32(0.5)
    for q in range(m):
        for p in range(m):
            near, far = _kernel_at(axis, p - q), _kernel_at(axis, p + q + 1 - size)
            halves[q * m + p] = half * (near + far)
            halves[(m + q) * m + p] = half * (near - far)


@compiled
def _kernel_at(axis, n):
    if n > REACH:
        return np.float32(1)
    if n < -REACH:
        return np.float32(-1)
    return KERNELS[axis, n + REACH]


@compiled
def _fold(lines, folded, empty):
    """Sums of mirrored lines in the upper half, differences in the lower one, from below.

    The first and the last ``empty`` lines are left out.
    """
    count = lines.shape[0]
    for p in range(empty, count // 2):
        upper, lower = lines[p], lines[count - 1 - p]
        even, odd = folded[p], folded[count - 1 - p]
        for x in range(lines.shape[1]):
            first, second = upper[x], lower[x]
            even[x] = first + second
            odd[x] = first - second


@compiled
def _convolve_lines(folded, halves, empty, start, stop, out):
    """Along the folded lines: ``out`` (columns, lines) gets the odd half before the even one.

    For the columns from ``start`` to ``stop``, multiples of ``TILE_ROWS``; ``empty`` as in
    ``_fold``.
    """
    lines, columns = folded.shape
    m = lines // 2
    a, c = folded.reshape(-1), out.reshape(-1)
    for part in range(2):
        line = empty if part == 0 else lines - 1 - empty
        a_first, a_step = line * columns, columns if part == 0 else -columns
        column = 0
        while column < m:
            b_first = (part * m + empty) * m + column
            c_first = part * m + column
            left = (m - column) // LANES
            # Three vectors at once, and two or four of the last ones by two.
            vectors = 3 if left == 3 or left > 4 else min(left, 2)
            for row in range(start, stop, TILE_ROWS):
                operands = (a, a_first + row, a_step, halves, b_first, m)
                result = (c, c_first + row * lines, lines, m - empty)
                if vectors == 3:
                    tile_3(*operands, *result)
                elif vectors == 2:
                    tile_2(*operands, *result)
                else:
                    tile_1(*operands, *result)
            column += vectors * LANES


@compiled
def _convolve_folded(grid, halves_T, halves_S, empty_T, empty_S, between, field):
    """Both convolutions, as products of matrices of a quarter of the size.

    The first and last ``empty_T`` lines and ``empty_S`` columns of ``grid`` are zero; such
    lines of ``field`` are not written. ``between`` has the size of ``grid`` and is overwritten.
    """
    height, width = grid.shape
    tall, broad = height // 2, width // 2
    turned = field.reshape(width, height)
    skip_T, skip_S = empty_T // TILE_ROWS * TILE_ROWS, empty_S // TILE_ROWS * TILE_ROWS
    _fold(grid, between, empty_T)
    _convolve_lines(between, halves_T, empty_T, skip_S, width - skip_S, turned)
    _fold(turned, turned, empty_S)
    # The odd half of the lines comes before the even one, each from the outermost to the middle.
    _convolve_lines(turned, halves_S, empty_S, skip_T, tall, between)
    _convolve_lines(turned, halves_S, empty_S, tall + skip_T, height, between)
    above, below = np.empty(width, np.float32), np.empty(width, np.float32)
    for p in range(empty_T, tall):
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
    """With W the spread grid and c samples of tanh, Q = c_T W c_S^T: the agreement is <W, Q>, and
    the gradient is the derivative of Q's spline at the class.
    """
    count = preds_S.shape[1]
    firsts = np.empty(BLOCK, np.int64)
    rests_S, rests_T = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    weights = np.empty(TAPS_T * BLOCK, np.float32)
    placed = firsts, rests_S, rests_T, weights
    halves = np.empty((2, _start_of_halves(MAX_FOLDED + 2 * LANES)), np.float32)
    known = np.zeros((2, MAX_FOLDED + 1), np.bool_)
    buffers = np.empty((3, 0), np.float32)
    pairs = count * (count - 1) / 2
    factor = np.float32(-steepness * weight / (pairs * STEP))
    scale = steepness / STEP
    for row in rows:
        s, t = preds_S[row], preds_T[row]
        min_S, max_S, min_T, max_T = logit_ranges(s, t)
        used_T = grid_size(steepness * (max_T - min_T), DEGREE_T)
        used_S = grid_size(steepness * (max_S - min_S), DEGREE)
        height, width = _padded(used_T), _padded(used_S)
        # In the middle, so that as many outer lines as can be are empty.
        empty_T, empty_S = (height - used_T) // 2, (width - used_S) // 2
        corner = min_S, min_T, empty_T * width + empty_S
        size = height * width
        if size > buffers.shape[1]:
            buffers = np.empty((3, size), np.float32)
        nodes, field = buffers[0, :size], buffers[1, :size]
        nodes[:] = np.float32(0)
        for start in range(0, count, BLOCK):
            block = slice(start, min(start + BLOCK, count))
            _place(s[block], t[block], corner, scale, width, *placed)
            for i in range(block.stop - start):
                spread_patch(nodes, firsts[i], width, weights, i, BLOCK, rests_S[i])

        grid, result = nodes.reshape(height, width), field.reshape(height, width)
        if max(height, width) <= MAX_FOLDED:
            for axis, nodes_of in enumerate((height, width)):
                if not known[axis, nodes_of]:
                    known[axis, nodes_of] = True
                    _fill_halves(halves[axis, _start_of_halves(nodes_of) :], nodes_of, axis)
            _convolve_folded(
                grid,
                halves[0, _start_of_halves(height) :],
                halves[1, _start_of_halves(width) :],
                *(empty_T, empty_S),
                buffers[2, :size].reshape(height, width),
                result,
            )
        else:
            convolve(grid, result)
        total = 0.0
        if need_value:
            for p in range(empty_T, empty_T + used_T):
                total += _dot(grid[p], result[p])
        loss[row] = 1.0 - total / (2 * pairs) if need_value else 0.0
        if need_grad:
            out = grad[row]
            for start in range(0, count, BLOCK):
                block = slice(start, min(start + BLOCK, count))
                if count > BLOCK:
                    _place(s[block], t[block], corner, scale, width, *placed)
                for i in range(block.stop - start):
                    out[start + i] = factor * gather_slope(
                        field, firsts[i], width, weights, i, BLOCK, rests_S[i]
                    )


@compiled
def convolve(grid, field):
    """Both convolutions of one ``grid``, for more nodes than a matrix product is good for.

    The kernel less its sign has but its tails; the sign is a matter of running sums.
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
            convolve_lanes(flat, p * CONVOLVED, CONVOLVED, TAIL_KERNELS[0], out, 0)
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
            convolve_lanes(line, start, 1, TAIL_KERNELS[1], result, start)
        field[p] = result[:width]

"""The classes on a grid over (student, teacher): O(C), and a convolution of the grid.

The classes are spread on the nodes, both tanh become convolutions along the two axes, and the
gradient is read off where the classes are.
"""

from __future__ import annotations

import numpy as np

from mmkendall.functional.backends.numba_loops.basics import LANES, compiled, logit_ranges
from mmkendall.functional.backends.numba_loops.taps import (
    DEGREE,
    KERNEL,
    PIECES,
    PIECES_SLOPE,
    REACH,
    RISES,
    RISES_BACK,
    STEP,
    TAPS,
    count_nodes,
    locate,
)
from mmkendall.functional.backends.numba_loops.vectors import (
    CONVOLVED,
    TILE_ROWS,
    add_line,
    convolve_lanes,
    dot_and_add,
    fold_lines,
    make_gather_patch,
    make_spread_patch,
    mirror_sums,
    tile_1,
    tile_2,
    tile_3,
)

spread_patch, gather_patch = make_spread_patch(TAPS, PIECES), make_gather_patch(TAPS - 1, PIECES)
VALUE_PIECES, SLOPE_PIECES = PIECES.astype(np.float32), PIECES_SLOPE.astype(np.float32)
VALUES, CHANGES = KERNEL.astype(np.float32), RISES.astype(np.float32)
# Beyond the sign; in the order of the nodes that they are multiplied with.
VALUE_TAILS = np.flip(KERNEL - np.sign(np.arange(-REACH, REACH + 1))).astype(np.float32)
# Along one axis; more nodes are convolved one after the other.
MAX_FOLDED = 256
# Classes whose places on the grid are found at once.
BLOCK = 1024
# A node that gets more than this share of the classes may be that of tied ones, which float32
# would all round alike. They are added up a few at a time.
CROWD, FEW = 1 / 64, 64
# So few nodes are always crowded.
SMALL = 1024


@compiled
def _padded(size):
    """A multiple of ``2 * LANES``."""
    return (size + 2 * LANES - 1) // (2 * LANES) * (2 * LANES)


@compiled
def _place(s, t, corner, scale, width, firsts, rests_S, rests_T):
    """Where the patch of each class begins on the grid, and the rests along both axes."""
    min_S, min_T, start = corner
    for i in range(s.shape[0]):
        row, rests_S[i] = locate(s[i], min_S, scale)
        column, rests_T[i] = locate(t[i], min_T, scale)
        firsts[i] = start + row * width + column


@compiled
def _weigh(rests, pieces, weights):
    """The weights of all classes; those of a tap begin ``BLOCK`` after those of the one before."""
    for tap in range(pieces.shape[1]):
        for i in range(rests.shape[0]):
            weight = pieces[DEGREE, tap]
            for power in range(DEGREE - 1, -1, -1):
                weight = weight * rests[i] + pieces[power, tap]
            weights[tap * BLOCK + i] = weight


@compiled
def _spread(s, t, corner, scale, width, placed, weights, nodes):
    firsts, rests_S, rests_T = placed
    for start in range(0, s.shape[0], BLOCK):
        stop = min(start + BLOCK, s.shape[0])
        _place(s[start:stop], t[start:stop], corner, scale, width, *placed)
        _weigh(rests_S[: stop - start], VALUE_PIECES, weights)
        for i in range(stop - start):
            spread_patch(nodes, firsts[i], width, weights, i, BLOCK, rests_T[i])


@compiled
def _largest(nodes):
    """Of float32 that are not negative, which are ordered as their bits: those are vectorised."""
    bits = nodes.view(np.int32)
    largest = np.int32(0)
    for n in range(bits.shape[0]):
        largest = max(largest, bits[n])
    return np.int32(largest).view(np.float32)


@compiled
def _start_of_halves(size):
    """Where the matrices for ``size`` nodes begin among those of all sizes."""
    number = size // (2 * LANES) - 1
    return 2 * LANES**2 * (number * (number + 1) * (2 * number + 1) // 6)


@compiled
def _fill_halves(halves, size, is_change):
    """(2, m, m), m = size / 2: transposed, the convolution on even and on odd halves of nodes."""
    m = size // 2
    half = np.float32(0.5)
    for q in range(m):
        for p in range(m):
            if is_change:
                near, far = _change_at(p - q), _change_at(p + q + 1 - size)
            else:
                near, far = _value_at(p - q), _value_at(p + q + 1 - size)
            halves[q * m + p] = half * (near + far)
            halves[(m + q) * m + p] = half * (near - far)


@compiled
def _value_at(n):
    if n > REACH:
        return np.float32(1)
    if n < -REACH:
        return np.float32(-1)
    return VALUES[n + REACH]


@compiled
def _change_at(n):
    """From node n to the next."""
    return CHANGES[n + REACH + 1] if -REACH - 2 < n <= REACH else np.float32(0)


@compiled
def _fold(lines, folded, empty):
    """Sums of mirrored lines in the upper half, differences in the lower one, from below.

    The first and the last ``empty`` lines are left out.
    """
    count = lines.shape[0]
    for p in range(empty, count // 2):
        opposite = count - 1 - p
        fold_lines(lines[p], lines[opposite], folded[p], folded[opposite])


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
def _convolve_folded(grid, halves_S, halves_T, empty_S, empty_T, between, field):
    """Both convolutions, as products of matrices of a quarter of the size.

    The first and last ``empty_S`` lines and ``empty_T`` columns of ``grid`` are zero; such lines
    of ``field`` are not written. ``between`` has the size of ``grid`` and is overwritten.
    """
    height, width = grid.shape
    tall, broad = height // 2, width // 2
    turned = field.reshape(width, height)
    skip_S, skip_T = empty_S // TILE_ROWS * TILE_ROWS, empty_T // TILE_ROWS * TILE_ROWS
    _fold(grid, between, empty_S)
    _convolve_lines(between, halves_S, empty_S, skip_T, width - skip_T, turned)
    _fold(turned, turned, empty_T)
    # The even half of the lines comes first, each half from the outermost line to the middle.
    _convolve_lines(turned, halves_T, empty_T, skip_S, tall, between)
    _convolve_lines(turned, halves_T, empty_T, tall + skip_S, height, between)
    above, below = np.empty(width, np.float32), np.empty(width, np.float32)
    for p in range(empty_S, tall):
        fold_lines(between[p], between[tall + p], above, below)
        # Along the columns, what was even about the middle has become odd.
        mirror_sums(above[:broad], above[broad:], field[p])
        # There is one change less than there are lines.
        mirror_sums(below[:broad], below[broad:], field[height - 2 - p])


@compiled
def _convolve_long(grid, field):
    """Both convolutions, for more nodes than a product of matrices is good for."""
    height, width = grid.shape
    padded = np.zeros((height + 2 * REACH + 1, CONVOLVED), np.float32)
    flat = padded.reshape(-1)
    changes = np.empty(CONVOLVED, np.float32)
    for start in range(0, width, CONVOLVED):
        size = min(CONVOLVED, width - start)
        for p in range(height):
            padded[REACH + p, :size] = grid[p, start : start + size]
        for p in range(height):
            changes[:] = np.float32(0)
            convolve_lanes(flat, p * CONVOLVED, CONVOLVED, RISES_BACK, changes, 0)
            field[p, start : start + size] = changes[:size]
    # Past the end, so that the last 64 are as many as the others.
    line = np.zeros(width + 2 * REACH + CONVOLVED, np.float32)
    values = np.empty(width + CONVOLVED, np.float32)
    for p in range(height):
        line[REACH : REACH + width] = field[p]
        # The kernel less its sign has but ``VALUE_TAILS``; the sign is a matter of running sums.
        total = 0.0
        for n in range(width):
            total -= line[REACH + n]
        for n in range(width):
            if n > 0:
                total += line[REACH + n - 1]
            total += line[REACH + n]
            values[n] = total
        for start in range(0, width, CONVOLVED):
            convolve_lanes(line, start, 1, VALUE_TAILS, values, start)
        field[p] = values[:width]


@compiled
def _agreement(grid, field, first, stop):
    """<W, Q>, of the lines from ``first`` to ``stop`` of the grid and how much Q changes."""
    width = grid.shape[1]
    # Of the nodes of the first line with all classes by student, and of those by teacher.
    begin, line = np.zeros(width, np.float32), np.zeros(width, np.float32)
    for p in range(first, stop):
        add_line(begin, _value_at(first - p), grid[p])
    kernel = np.empty(2 * width, np.float32)
    for n in range(2 * width):
        kernel[n] = _value_at(n - width)
    for other in range(width):
        add_line(line, begin[other], kernel[width - other : 2 * width - other])
    total = 0.0
    for p in range(first, stop):
        total += dot_and_add(line, grid[p], field[p])
    return total


@compiled
def grid_rows(
    preds_S, preds_T, steepness, surrogate, rows, need_grad, need_value, weight, loss, grad
):
    """With W the spread grid and c tanh between nodes, Q = c W c^T: the agreement is <W, Q>, and
    the gradient is read off how much Q changes from node to node along s.

    The changes are what is computed: next to them, Q is so large that float32 loses digits.
    """
    count = preds_S.shape[1]
    firsts = np.empty(BLOCK, np.int64)
    rests_S, rests_T = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    placed = firsts, rests_S, rests_T
    weights = np.empty(TAPS * BLOCK, np.float32)
    halves = np.empty((2, _start_of_halves(MAX_FOLDED + 2 * LANES)), np.float32)
    known = np.zeros(MAX_FOLDED + 1, np.bool_)
    buffers = np.empty((3, 0), np.float32)
    pairs = count * (count - 1) / 2
    factor = np.float32(-steepness * weight / (pairs * STEP))
    scale = steepness / STEP
    for row in rows:
        s, t = preds_S[row], preds_T[row]
        min_S, max_S, min_T, max_T = logit_ranges(s, t)
        used_S = count_nodes(steepness * (max_S - min_S))
        used_T = count_nodes(steepness * (max_T - min_T))
        height, width = _padded(used_S), _padded(used_T)
        # In the middle, so that as many outer lines as can be are empty.
        empty_S, empty_T = (height - used_S) // 2, (width - used_T) // 2
        corner = min_S, min_T, empty_S * width + empty_T
        size = height * width
        if size > buffers.shape[1]:
            buffers = np.empty((3, size), np.float32)
        nodes, flat_field = buffers[0, :size], buffers[1, :size]
        nodes[:] = np.float32(0)
        is_crowded = size <= SMALL
        if not is_crowded:
            _spread(s, t, corner, scale, width, placed, weights, nodes)
            is_crowded = _largest(nodes) > CROWD * count
        if is_crowded:
            nodes[:] = np.float32(0)
            part = buffers[2, :size]
            for start in range(0, count, FEW):
                part[:] = np.float32(0)
                few = slice(start, min(start + FEW, count))
                _spread(s[few], t[few], corner, scale, width, placed, weights, part)
                nodes += part

        grid, field = nodes.reshape(height, width), flat_field.reshape(height, width)
        if max(height, width) <= MAX_FOLDED:
            for nodes_of in (height, width):
                if not known[nodes_of]:
                    known[nodes_of] = True
                    start = _start_of_halves(nodes_of)
                    _fill_halves(halves[0, start:], nodes_of, True)
                    _fill_halves(halves[1, start:], nodes_of, False)
            _convolve_folded(
                grid,
                halves[0, _start_of_halves(height) :],
                halves[1, _start_of_halves(width) :],
                *(empty_S, empty_T),
                *(buffers[2, :size].reshape(height, width), field),
            )
        else:
            _convolve_long(grid, field)
        total = _agreement(grid, field, empty_S, empty_S + used_S) if need_value else 0.0
        loss[row] = 1.0 - total / (2 * pairs) if need_value else 0.0
        if need_grad:
            out = grad[row]
            for start in range(0, count, BLOCK):
                stop = min(start + BLOCK, count)
                if count > BLOCK or is_crowded:
                    _place(s[start:stop], t[start:stop], corner, scale, width, *placed)
                _weigh(rests_S[: stop - start], SLOPE_PIECES, weights)
                for i in range(stop - start):
                    out[start + i] = factor * gather_patch(
                        flat_field, firsts[i], width, weights, i, BLOCK, rests_T[i]
                    )

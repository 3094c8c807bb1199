"""The classes on a grid over (student, teacher): O(C), and two convolutions of the grid.

Each class is spread over the nodes around it. Both tanh then are convolutions along the two axes,
and the gradient is read off the result where the classes are.
"""

from __future__ import annotations

import numpy as np

from mmkendall.functional.backends.numba_loops import taps
from mmkendall.functional.backends.numba_loops.basics import (
    compiled,
    copy,
    entry,
    fill,
    logit_ranges,
)

# Four lines are convolved with four others at once, and REACH is a multiple of that. Zeros
# surround the kernel.
TILE = 4
BAND = taps.REACH + 1 + 2 * TILE
CHANGES = taps.rise_at(np.arange(-BAND, BAND)).astype(np.float32)
# So many columns are convolved at once. A constant lets LLVM see which lines do not overlap.
PANEL = 128
# Classes whose places on the grid are found at once. The weights of a class are so far apart that
# they would share one line of the cache if this were a power of two.
BLOCK = 1040
# A node that gets more than this share of the classes may be that of tied ones, which float32
# would all round alike. They are added up a few at a time.
CROWD, FEW = 1 / 64, 64
# Not signed, or Numba would test each index for being negative.
N1, N2, N3, N4, N5, N6, N7 = (np.uint64(n) for n in range(1, taps.TAPS))


@compiled
def _place(s, t, lows, scale, width, firsts, weights):
    """The first node of each class, and how far above its node it lies along both axes."""
    fill(firsts, 0)
    taps.locate(s, lows[0], scale, width, firsts, weights[0])
    taps.locate(t, lows[1], scale, 1, firsts, weights[1])
    taps.weigh(t.shape[0], taps.VALUE_PIECES, weights[1])


@compiled
def _spread(s, t, lows, scale, width, firsts, weights, nodes):
    weights_S, weights_T = weights
    for start in range(0, s.shape[0], BLOCK):
        own_s, own_t = s[start : start + BLOCK], t[start : start + BLOCK]
        _place(own_s, own_t, lows, scale, width, firsts, weights)
        taps.weigh(own_s.shape[0], taps.VALUE_PIECES, weights_S)
        for i in range(own_s.shape[0]):
            # Eight by name: a store into the nodes could change what an array holds, so LLVM would
            # read each of them again for every line.
            w0, w1, w2, w3 = weights_T[0, i], weights_T[1, i], weights_T[2, i], weights_T[3, i]
            w4, w5, w6, w7 = weights_T[4, i], weights_T[5, i], weights_T[6, i], weights_T[7, i]
            node = np.uint64(firsts[i])
            for tap in range(taps.TAPS):
                weight = weights_S[tap, i]
                nodes[node] += weight * w0
                nodes[node + N1] += weight * w1
                nodes[node + N2] += weight * w2
                nodes[node + N3] += weight * w3
                nodes[node + N4] += weight * w4
                nodes[node + N5] += weight * w5
                nodes[node + N6] += weight * w6
                nodes[node + N7] += weight * w7
                node += np.uint64(width)


@compiled
def _read(firsts, width, weights, field, factor, out):
    weights_S, weights_T = weights
    for i in range(out.shape[0]):
        total, first = np.float32(0), np.uint64(firsts[i])
        for tap in range(taps.TAPS - 1):
            part, node = np.float32(0), first
            for other in range(taps.TAPS):
                part += weights_T[other, i] * field[node]
                node += N1
            total += weights_S[tap, i] * part
            first += np.uint64(width)
        out[i] = factor * total


@compiled
def _sum_before(panel, height, total):
    """``total`` gets what the panel's lines, convolved with the kernel, are at the first."""
    fill(total, 0.0)
    for p in range(height):
        value = taps.KERNEL[taps.REACH - p] if p <= taps.REACH else -1.0
        line = panel[p * PANEL :]
        for n in range(total.shape[0]):
            total[n] += value * line[n]


@compiled
def _convolve_panel(panel, height, width, out):
    """How much the panel's lines, convolved with the kernel, rise from each to the next."""
    for p in range(0, height, TILE):
        o = out[p * PANEL :]
        for i in range(width):
            o[i] = o[i + PANEL] = o[i + 2 * PANEL] = o[i + 3 * PANEL] = np.float32(0)
        for q in range(max(0, p - taps.REACH), min(height, p + taps.REACH + TILE + 1), TILE):
            x = panel[q * PANEL :]
            # By how many nodes a line of ``o`` is above one of ``x``: from -3 to 3 beside p - q.
            near = CHANGES[p - q + BAND - TILE + 1 :]
            k0, k1, k2, k3 = near[0], near[1], near[2], near[3]
            k4, k5, k6 = near[4], near[5], near[6]
            for i in range(width):
                x0, x1, x2, x3 = x[i], x[i + PANEL], x[i + 2 * PANEL], x[i + 3 * PANEL]
                o[i] += (k3 * x0 + k2 * x1) + (k1 * x2 + k0 * x3)
                o[i + PANEL] += (k4 * x0 + k3 * x1) + (k2 * x2 + k1 * x3)
                o[i + 2 * PANEL] += (k5 * x0 + k4 * x1) + (k3 * x2 + k2 * x3)
                o[i + 3 * PANEL] += (k6 * x0 + k5 * x1) + (k4 * x2 + k3 * x3)


@compiled
def _convolve(lines, panels, turned, summed):
    """``turned`` (W, H) gets how much the lines (H, W), convolved, rise from each to the next.

    In place of the last rise, which nobody asks for, come the convolved values at the first line.
    If ``summed`` is 1, those and the rises are added up: the values at all lines.
    """
    height, width = lines.shape
    panel, rises = panels
    # In float64: the values are far larger than what they rise by.
    values = np.empty(PANEL, np.float64)
    for start in range(0, width, PANEL):
        size = min(PANEL, width - start)
        for p in range(height):
            copy(lines[p, start:], panel[p * PANEL : p * PANEL + size])
        _convolve_panel(panel, height, size, rises)
        _sum_before(panel, height, values[:size])
        if summed == 1:
            for p in range(height):
                line = rises[p * PANEL : p * PANEL + size]
                for n in range(size):
                    rise = line[n]
                    line[n] = values[n]
                    values[n] += rise
        else:
            last = (height - 1) * PANEL
            copy(values, rises[last : last + size])
        for n in range(size):
            column, out = rises[n:], turned[start + n]
            for p in range(height):
                out[p] = column[p * PANEL]


@compiled
def _agreement(grid, field):
    """<W, Q>: the last line of ``field`` is the first of Q, the others are how much it rises."""
    height, width = grid.shape
    line = np.empty(width, np.float64)
    copy(field[height - 1], line)
    total = 0.0
    for p in range(height):
        nodes, rises = grid[p], field[p]
        for n in range(width):
            total += nodes[n] * line[n]
            line[n] += rises[n]
    return total


@entry
def product_rows(preds_S, preds_T, steepness, rows, need_grad, need_value, weight, loss, grad):
    """With W the spread grid and c the kernel between nodes, Q = c W c^T: the agreement is <W, Q>,
    and the gradient is read off how much Q changes from node to node along s.

    The changes are what is computed: next to them, Q is so large that float32 loses digits.
    """
    count = preds_S.shape[1]
    firsts = np.empty(BLOCK, np.int64)
    tables = np.empty((2 * taps.TAPS + 2, BLOCK), np.float32)
    weights = tables[: taps.TAPS + 1], tables[taps.TAPS + 1 :]
    buffers, panels = np.empty((3, 0), np.float32), np.empty((2, 0), np.float32)
    pairs = count * (count - 1) / 2
    factor = np.float32(-steepness * weight / (pairs * taps.STEP))
    scale = steepness / taps.STEP
    total = 0.0
    for row in rows:
        s, t = preds_S[row], preds_T[row]
        min_S, max_S, min_T, max_T = logit_ranges(s, t)
        height = (taps.count_nodes(steepness * (max_S - min_S)) + TILE - 1) // TILE * TILE
        width = (taps.count_nodes(steepness * (max_T - min_T)) + TILE - 1) // TILE * TILE
        lows = min_S, min_T
        size = height * width
        if size > buffers.shape[1]:
            buffers = np.empty((3, size), np.float32)
        if max(height, width) * PANEL > panels.shape[1]:
            panels = np.empty((2, max(height, width) * PANEL), np.float32)
        nodes = buffers[0, :size]
        fill(nodes, np.float32(0))
        _spread(s, t, lows, scale, width, firsts, weights, nodes)
        # Counted to the end: a search for the largest would not be vectorised.
        crowd, num_crowds = np.float32(CROWD * count), 0
        for n in range(size):
            num_crowds += nodes[n] > crowd
        if num_crowds > 0:
            fill(nodes, np.float32(0))
            part = buffers[1, :size]
            for start in range(0, count, FEW):
                fill(part, np.float32(0))
                few = slice(start, start + FEW)
                _spread(s[few], t[few], lows, scale, width, firsts, weights, part)
                for n in range(size):
                    nodes[n] += part[n]

        grid = nodes.reshape(height, width)
        turned = buffers[1, :size].reshape(width, height)
        flat_field = buffers[2, :size]
        field = flat_field.reshape(height, width)
        lines, out = grid, turned
        for summed in range(2):  # No constants, for which Numba would compile it twice.
            _convolve(lines, (panels[0], panels[1]), out, summed)
            lines, out = turned, field
        loss[row] = 1.0 - _agreement(grid, field) / (2 * pairs) if need_value else 0.0
        total += loss[row]
        if need_grad:
            for start in range(0, count, BLOCK):
                own_s, own_t = s[start : start + BLOCK], t[start : start + BLOCK]
                if count > BLOCK or num_crowds > 0:
                    _place(own_s, own_t, lows, scale, width, firsts, weights)
                taps.weigh(own_s.shape[0], taps.SLOPE_PIECES, weights[0])
                own_grad = grad[row, start : start + BLOCK]
                _read(firsts, width, weights, flat_field, factor, own_grad)
    return total

"""The compiled loops behind ``numba_cpu``. Importing this file imports Numba.

Every ``*_rows`` function works through the rows ``rows`` of ``preds_S`` and ``preds_T`` (N, C) and
writes their ``loss`` (N,) and, when ``need_grad``, their gradient ``grad`` (N, C). Those rows must
be finite.

Two rules keep the loops vectorised: inner loops run over slices that start at their first element
(an offset would keep Numba's test for negative indices), and constants come in as arguments of
the rows' dtype. Fast-math never assumes the absence of infinities or NaN.
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

FASTMATH = {'contract', 'reassoc', 'arcp', 'nsz'}
EXACT_ORDER = {'contract', 'nsz'}
LANES = 8
# Gradients are summed in the rows' dtype over a strip of this many classes, then in float64.
STRIP = 512
# Classes whose neighbours at one distance are taken together.
WINDOW_BLOCK = 128
# With exp(2 k s) between e^-28 and e^28, products of four of them stay inside float32.
RATIO_RANGE = 28.0


def compiled(function=None, *, fastmath=FASTMATH):
    """``njit`` as every loop here wants it: no lock on the interpreter, code kept on disk."""

    def compile_(function):
        options = dict(nogil=True, fastmath=fastmath, error_model='numpy')
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:  # Neither the package nor the user has a folder to write to.
            return njit(**options)(function)

    return compile_ if function is None else compile_(function)


# --------------------------------------------------------------------------- one pair of classes


def _exp2(x):
    """``2**x - 1`` and ``2**x`` for -1000 < x < 1000 (float64) or -120 < x < 120 (float32)."""


def _series(order):
    return tuple(math.log(2) ** n / math.factorial(n) for n in range(1, order + 1))


A1, A2, A3, A4, A5, A6, A7 = (np.float32(a) for a in _series(7))
B1, B2, B3, B4, B5, B6, B7, B8, B9, B10, B11, B12, B13, B14 = _series(14)
# Adding it rounds to an integer and leaves that integer in the low bits.
ROUND_32 = np.float32(1.5 * 2**23)
ROUND_64 = np.float64(1.5 * 2**52)


@overload(_exp2, jit_options={'fastmath': EXACT_ORDER})
def _overload_exp2(x):
    if x == types.float32:

        def impl(x):
            rounded = x + ROUND_32
            f = x - (rounded - ROUND_32)
            bits = (np.float32(rounded).view(np.int32) << np.int32(23)) + np.int32(127 << 23)
            power = np.int32(bits).view(np.float32)
            series = f * (A1 + f * (A2 + f * (A3 + f * (A4 + f * (A5 + f * (A6 + f * A7))))))
            return power * series + (power - np.float32(1)), power * series + power

        return impl

    def impl(x):
        rounded = x + ROUND_64
        f = x - (rounded - ROUND_64)
        bits = (np.float64(rounded).view(np.int64) << np.int64(52)) + np.int64(1023 << 52)
        power = np.int64(bits).view(np.float64)
        high = B8 + f * (B9 + f * (B10 + f * (B11 + f * (B12 + f * (B13 + f * B14)))))
        low = B1 + f * (B2 + f * (B3 + f * (B4 + f * (B5 + f * (B6 + f * (B7 + f * high))))))
        return power * (f * low) + (power - 1.0), power * (f * low) + power

    return impl


@compiled
def _pair_ratio(t_i, dt_i, s_i, ds_i, t_j, dt_j, s_j, ds_j, scale, one, limit):
    """tanh as a ratio: ``t``, ``s`` hold a = exp(2kx) and ``dt``, ``ds`` hold a or a - 1.

    tanh(k(x_i - x_j)) = (a_i - a_j) / (a_i + a_j), 1 - tanh^2 = 4 a_i a_j / (a_i + a_j)^2.
    """
    sum_t = t_i + t_j
    sum_s = s_i + s_j
    inverse = one / (sum_t * sum_s)
    common = (dt_i - dt_j) * inverse
    return common * (ds_i - ds_j), common * (sum_t * inverse) * (s_i * s_j)


@compiled
def _pair_product(t_i, dt_i, s_i, ds_i, t_j, dt_j, s_j, ds_j, scale, one, limit):
    """tanh(x) = q / (q + 2) with q = exp(2x) - 1. ``t`` and ``s`` hold the logits."""
    two = one + one
    q_t, _ = _exp2(min(max(scale * (t_i - t_j), -limit), limit))
    q_s, e_s = _exp2(min(max(scale * (s_i - s_j), -limit), limit))
    sum_t = q_t + two
    inverse = one / (sum_t * (q_s + two))
    common = q_t * inverse
    return common * q_s, common * (sum_t * inverse) * e_s


@compiled
def _pair_hard_teacher(t_i, dt_i, s_i, ds_i, t_j, dt_j, s_j, ds_j, scale, one, limit):
    zero = one - one
    sign_t = one if t_i > t_j else (-one if t_i < t_j else zero)
    q_s, e_s = _exp2(min(max(scale * (s_i - s_j), -limit), limit))
    inverse = one / (q_s + one + one)
    return sign_t * (q_s * inverse), sign_t * (e_s * (inverse * inverse))


@compiled
def _pair_diffkendall(t_i, dt_i, s_i, ds_i, t_j, dt_j, s_j, ds_j, scale, one, limit):
    delta_t = t_i - t_j
    x = min(max(scale * (delta_t * (s_i - s_j)), -limit), limit)
    q, e = _exp2(x)
    inverse = one / (q + one + one)
    # A teacher's difference may be so large that even the last of tanh's tail counts.
    tail = e * (inverse * inverse) if abs(x) < limit else one - one
    return q * inverse, delta_t * tail


# ------------------------------------------------------------------------------------ all pairs


def _make_all_pairs(pair):
    @compiled
    def all_pairs(table, scale, one, limit, strip_slope, slope, num_classes):
        """Adds to ``slope`` a quarter of each class's sum; returns the sum over the pairs i < j.

        ``table`` is (5, C + LANES): t, dt, s, ds as ``pair`` takes them, and 1 for a class, 0 for
        the padding, which takes part in the loops so that they leave no remainder.
        """
        zero = one - one
        total = 0.0
        for start in range(0, num_classes, STRIP):
            stop = min(start + STRIP, num_classes)
            strip_slope[start:] = zero
            for i in range(start, stop):
                count = num_classes - 1 - i
                padded = (count + LANES - 1) // LANES * LANES
                t_i, dt_i, s_i, ds_i = table[0, i], table[1, i], table[2, i], table[3, i]
                t = table[0, i + 1 : i + 1 + padded]
                dt = table[1, i + 1 : i + 1 + padded]
                s = table[2, i + 1 : i + 1 + padded]
                ds = table[3, i + 1 : i + 1 + padded]
                counts = table[4, i + 1 : i + 1 + padded]
                mirror = strip_slope[i + 1 : i + 1 + padded]
                value_i = zero
                slope_i = zero
                for j in range(padded):
                    value, change = pair(
                        t_i, dt_i, s_i, ds_i, t[j], dt[j], s[j], ds[j], scale, one, limit
                    )
                    value_i += value * counts[j]
                    slope_i += change * counts[j]
                    mirror[j] -= change
                strip_slope[i] += slope_i
                total += value_i
            for i in range(start, num_classes):
                slope[i] += strip_slope[i]
        return total

    return all_pairs


_all_pairs_ratio = _make_all_pairs(_pair_ratio)
_all_pairs_product = _make_all_pairs(_pair_product)
_all_pairs_hard_teacher = _make_all_pairs(_pair_hard_teacher)
_all_pairs_diffkendall = _make_all_pairs(_pair_diffkendall)


@compiled
def _fill_ratio(logits, lowest, highest, scale, ratio, difference):
    """a = exp(2k (x - middle)), and what to subtract from what: a - 1 where all a are near 1."""
    middle = (lowest + highest) / 2
    near_one = scale * (highest - lowest) < 1.0
    for i in range(logits.shape[0]):
        less_one, grown = _exp2(scale * (np.float64(logits[i]) - middle))
        ratio[i] = grown
        difference[i] = less_one if near_one else grown


PRODUCT, DIFFKENDALL, HARD_TEACHER = 0, 1, 2


@compiled
def _constants(preds, scale):
    """1, the exponent of 2 beyond which tanh is 1, and ``scale``, in the dtype of ``preds``."""
    constants = np.empty(3, preds.dtype)
    constants[0] = 1.0
    constants[1] = 60.0 if preds.itemsize == 4 else 300.0
    constants[2] = scale
    return constants[0], constants[1], constants[2]


@compiled
def dense_rows(preds_S, preds_T, steepness, surrogate, rows, need_grad, need_value, loss, grad):
    """Every pair of classes: any input, O(C^2)."""
    num_classes = preds_S.shape[1]
    table = np.zeros((5, num_classes + LANES), preds_S.dtype)
    table[4, :num_classes] = 1.0
    strip_slope = np.empty(num_classes + LANES, preds_S.dtype)
    sums = np.empty(num_classes, np.float64)
    scale64 = 2.0 * steepness / math.log(2.0)
    pairs = num_classes * (num_classes - 1) / 2
    factor = -4.0 * steepness / pairs
    one, limit, scale = _constants(preds_S, scale64)
    for row in rows:
        s, t = preds_S[row], preds_T[row]
        sums[:] = 0.0
        if surrogate == PRODUCT:
            min_S, max_S, min_T, max_T = _range(s, t)
            if steepness * max(max_S - min_S, max_T - min_T) <= RATIO_RANGE:
                _fill_ratio(t, min_T, max_T, scale64, table[0], table[1])
                _fill_ratio(s, min_S, max_S, scale64, table[2], table[3])
                table[0, num_classes:] = one
                table[2, num_classes:] = one
                value = _all_pairs_ratio(table, scale, one, limit, strip_slope, sums, num_classes)
            else:
                table[0, :num_classes] = t
                table[2, :num_classes] = s
                value = _all_pairs_product(
                    table, scale, one, limit, strip_slope, sums, num_classes
                )
        else:
            table[0, :num_classes] = t
            table[2, :num_classes] = s
            if surrogate == HARD_TEACHER:
                value = _all_pairs_hard_teacher(
                    table, scale, one, limit, strip_slope, sums, num_classes
                )
            else:
                value = _all_pairs_diffkendall(
                    table, scale, one, limit, strip_slope, sums, num_classes
                )
        loss[row] = 1.0 - value / pairs if need_value else 0.0
        if need_grad:
            for i in range(num_classes):
                grad[row, i] = factor * sums[i]


@compiled
def _range(s, t):
    min_S = max_S = s[0]
    min_T = max_T = t[0]
    for i in range(s.shape[0]):
        min_S, max_S = min(min_S, s[i]), max(max_S, s[i])
        min_T, max_T = min(min_T, t[i]), max(max_T, t[i])
    return np.float64(min_S), np.float64(max_S), np.float64(min_T), np.float64(max_T)


# ---------------------------------------------------------------------------------------- order


@compiled(fastmath=False)
def _sort_keys(logits, keys):
    """Unsigned integers in the order of the logits; -0.0 and 0.0 share one. No NaN."""
    if logits.itemsize == 4:
        for i in range(logits.shape[0]):
            bits = np.float32(logits[i] + np.float32(0)).view(np.int32)
            keys[i] = np.uint64(np.uint32(bits ^ ((bits >> 31) | np.int32(-(2**31)))))
    else:
        for i in range(logits.shape[0]):
            bits = np.float64(logits[i] + 0.0).view(np.int64)
            keys[i] = np.uint64(bits ^ ((bits >> np.int64(63)) | np.int64(-(2**63))))


@compiled(fastmath=False)
def _stable_sort(keys, order, num_bytes, spare_keys, spare_order, histogram):
    """Radix sort of ``keys`` with ``order`` alongside, byte by byte."""
    count = keys.shape[0]
    histogram[:] = 0
    for i in range(count):
        key = keys[i]
        for byte in range(num_bytes):
            histogram[byte, np.int64((key >> np.uint64(8 * byte)) & np.uint64(255))] += 1
    moved = False
    for byte in range(num_bytes):
        shift = np.uint64(8 * byte)
        first = np.int64(((spare_keys if moved else keys)[0] >> shift) & np.uint64(255))
        if histogram[byte, first] == count:
            continue
        position = 0
        for digit in range(256):
            size = histogram[byte, digit]
            histogram[byte, digit] = position
            position += size
        from_keys, from_order = (spare_keys, spare_order) if moved else (keys, order)
        to_keys, to_order = (keys, order) if moved else (spare_keys, spare_order)
        for i in range(count):
            key = from_keys[i]
            digit = np.int64((key >> shift) & np.uint64(255))
            position = histogram[byte, digit]
            histogram[byte, digit] = position + 1
            to_keys[position] = key
            to_order[position] = from_order[i]
        moved = not moved
    if moved:
        keys[:] = spare_keys
        order[:] = spare_order


@compiled(fastmath=False)
def _count_bits(word):
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + (
        (word >> np.uint64(2)) & np.uint64(0x3333333333333333)
    )
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@compiled(fastmath=False)
def _concordant_pairs(ranks, words, words_before, groups_before):
    """How many pairs i < j have ``ranks[i] < ranks[j]``, for a permutation ``ranks``.

    A bit for each rank seen so far; counts of the bits before each word of its group of 64 words,
    and before each group.
    """
    words[:] = 0
    words_before[:] = 0
    groups_before[:] = 0
    concordant = 0
    for i in range(ranks.shape[0]):
        rank = np.int64(ranks[i])
        word = rank >> 6
        group = word >> 6
        bit = np.uint64(1) << np.uint64(rank & 63)
        concordant += (
            groups_before[group]
            + words_before[word]
            + _count_bits(words[word] & (bit - np.uint64(1)))
        )
        words[word] |= bit
        for later in range(word + 1, min((group + 1) << 6, words.shape[0])):
            words_before[later] += 1
        for later in range(group + 1, groups_before.shape[0]):
            groups_before[later] += 1
    return concordant


@compiled
def _sort_buffers(count):
    return (
        np.empty(count, np.uint64),
        np.empty(count, np.uint64),
        np.empty(count, np.int32),
        np.empty((8, 256), np.int32),
    )


@compiled
def _bit_buffers(count):
    num_words = (count + 63) >> 6
    return (
        np.empty(num_words, np.uint64),
        np.empty(num_words, np.int32),
        np.empty((num_words + 63) >> 6, np.int64),
    )


# ------------------------------------------------------------------------------------- windows


def _make_window(pair):
    @compiled
    def window(s, t, width, scale, one, limit, changes, slope, mirror):
        """The pairs less than ``width`` apart in ``s``, which ascends, and a few more.

        Returns the sum of ``agreement - order``, where ``order`` is what the agreement would be
        if the student's tanh were -1 for i < j. A quarter of each class's sum goes to ``slope``,
        less what goes to ``mirror``. Neighbours 1, 2, ... places apart are taken for a block of
        classes at once: long loops, however narrow the window.
        """
        count = s.shape[0]
        zero = one - one
        slope[:] = zero
        mirror[:] = zero
        total = 0.0
        end = 0
        for start in range(0, count, WINDOW_BLOCK):
            stop = min(start + WINDOW_BLOCK, count)
            end, places = _places(s, start, stop, end, width)
            for place in range(1, places + 1):
                size = min(stop, count - place) - start
                s_i, t_i = s[start : start + size], t[start : start + size]
                s_j, t_j = s[start + place :], t[start + place :]
                value_i = zero
                for m in range(size):
                    value, change = pair(t_i[m], s_i[m], t_j[m], s_j[m], scale, one, limit)
                    value_i += value
                    changes[m] = change
                slope_i, mirror_j = slope[start : start + size], mirror[start + place :]
                for m in range(size):
                    slope_i[m] += changes[m]
                for m in range(size):
                    mirror_j[m] += changes[m]
                total += value_i
        return total

    return window


@compiled
def _places(logits, start, stop, end, width):
    """How many places apart two of ``logits``, which ascend, can be and less than ``width``.

    For the first of the two between ``start`` and ``stop``; ``end`` goes from call to call.
    """
    places = 0
    for i in range(start, stop):
        end = max(end, i + 1)
        while end < logits.shape[0] and logits[end] - logits[i] < width:
            end += 1
        places = max(places, end - i - 1)
    return end, places


@compiled
def _window_pair_product(t_i, s_i, t_j, s_j, scale, one, limit):
    two = one + one
    q_t, _ = _exp2(min(max(scale * (t_i - t_j), -limit), limit))
    q_s, e_s = _exp2(max(scale * (s_i - s_j), -limit))
    sum_s = q_s + two
    inverse = one / ((q_t + two) * sum_s)
    common = q_t * inverse * e_s
    return two * common, common * ((q_t + two) * inverse)


@compiled
def _window_pair_hard(t_i, s_i, t_j, s_j, scale, one, limit):
    zero = one - one
    sign_t = one if t_i > t_j else (-one if t_i < t_j else zero)
    q_s, e_s = _exp2(max(scale * (s_i - s_j), -limit))
    inverse = one / (q_s + one + one)
    common = sign_t * (e_s * inverse)
    return common + common, common * inverse


_window_product = _make_window(_window_pair_product)
_window_hard = _make_window(_window_pair_hard)


@compiled
def _teacher_window(t, ranks, width, scale, one, limit):
    """The sum over the pairs close in ``t``, which ascends, of (tanh + 1) * order of ranks."""
    count = t.shape[0]
    two = one + one
    total = 0.0
    end = 0
    for start in range(0, count, WINDOW_BLOCK):
        stop = min(start + WINDOW_BLOCK, count)
        end, places = _places(t, start, stop, end, width)
        for place in range(1, places + 1):
            size = min(stop, count - place) - start
            t_i, rank_i = t[start : start + size], ranks[start : start + size]
            t_j, rank_j = t[start + place :], ranks[start + place :]
            value_i = one - one
            for m in range(size):
                q, e = _exp2(max(scale * (t_i[m] - t_j[m]), -limit))
                order = one if rank_i[m] > rank_j[m] else -one
                value_i += order * (e / (q + two))
            total += two * value_i
    return total


@compiled
def _teacher_ties(t, ranks):
    """What ``_teacher_window`` is for a sign in place of tanh: only ties count."""
    total = 0.0
    for i in range(t.shape[0]):
        j = i + 1
        while j < t.shape[0] and t[j] == t[i]:
            total += 1.0 if ranks[i] > ranks[j] else -1.0
            j += 1
    return total


@compiled
def window_rows(preds_S, preds_T, steepness, surrogate, rows, need_grad, need_value, loss, grad):
    """Only the pairs whose tanh is not yet +-1, after sorting; order counts for the others.

    T S = o_t o_s + (T - o_t) o_s + T (S - o_s), with o = +-1 by position after sorting: a count of
    inversions and two sums near the diagonal. The gradient needs the last alone.
    """
    count = preds_S.shape[1]
    keys, spare_keys, spare_order, histogram = _sort_buffers(count)
    words, words_before, groups_before = _bit_buffers(count)
    order = np.empty(count, np.int32)
    rank_S = np.empty(count, np.int32)
    ranks = np.empty(count, np.int32)
    s = np.empty(count, preds_S.dtype)
    t = np.empty(count, preds_S.dtype)
    changes = np.empty(WINDOW_BLOCK, preds_S.dtype)
    slope = np.empty(count, preds_S.dtype)
    mirror = np.empty(count, preds_S.dtype)
    one, limit, scale = _constants(preds_S, 2.0 * steepness / math.log(2.0))
    pairs = count * (count - 1) / 2
    factor = -4.0 * steepness / pairs
    num_bytes = preds_S.itemsize
    # tanh is 1 to within the dtype beyond this.
    width = (9.0 if num_bytes == 4 else 20.0) / steepness
    for row in rows:
        _sort_keys(preds_S[row], keys)
        for i in range(count):
            order[i] = i
        _stable_sort(keys, order, num_bytes, spare_keys, spare_order, histogram)
        for i in range(count):
            s[i] = preds_S[row, order[i]]
            t[i] = preds_T[row, order[i]]
            rank_S[order[i]] = i
        if surrogate == PRODUCT:
            value = _window_product(s, t, width, scale, one, limit, changes, slope, mirror)
        else:
            value = _window_hard(s, t, width, scale, one, limit, changes, slope, mirror)
        if need_grad:
            for i in range(count):
                grad[row, order[i]] = factor * (slope[i] - mirror[i])
        if not need_value:
            loss[row] = 0.0
            continue
        _sort_keys(preds_T[row], keys)
        for i in range(count):
            order[i] = i
        _stable_sort(keys, order, num_bytes, spare_keys, spare_order, histogram)
        for i in range(count):
            t[i] = preds_T[row, order[i]]
            ranks[i] = rank_S[order[i]]
        concordant = _concordant_pairs(ranks, words, words_before, groups_before)
        value += 2.0 * concordant - pairs
        if surrogate == PRODUCT:
            value += _teacher_window(t, ranks, width, scale, one, limit)
        else:
            value += _teacher_ties(t, ranks)
        loss[row] = 1.0 - value / pairs


# ---------------------------------------------------------------------------------------- grid

# tanh(x - y) = sum_pq B(x / STEP - p) c[p - q] B(y / STEP - q), B the B-spline of degree 7: 8 taps
# and, with this step in units of k times a logit, 5e-7 of error in its derivative.
STEP = 0.25
DEGREE = 7
# c[n] is +-1 to within 1e-8 beyond this.
REACH = 40
CHUNK = 256


def _spline_pieces():
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


def _grid_kernel():
    """c[n] for -REACH <= n <= REACH: samples of tanh with the spline's own smoothing undone."""
    margin, period = 100, 512
    smoothing = np.zeros(period)
    for tap, weight in enumerate(_spline_pieces()[0]):
        smoothing[(tap - DEGREE // 2) % period] += weight
    undo = np.fft.fftshift(np.fft.ifft(np.fft.fft(smoothing) ** -2.0).real)
    undo = undo[period // 2 - margin : period // 2 + margin + 1]
    samples = np.tanh(STEP * np.arange(-REACH - margin, REACH + margin + 1))
    return np.convolve(samples, undo, 'valid').astype(np.float32)


PIECES = _spline_pieces().astype(np.float32)
PIECES_SLOPE = (np.arange(1, DEGREE + 1)[:, None] * _spline_pieces()[1:]).astype(np.float32)
GRID_KERNEL = _grid_kernel()


@compiled
def grid_size(logit_range, steepness):
    """Nodes along one axis, a multiple of ``LANES``."""
    nodes = int(logit_range * steepness / STEP) + DEGREE + 2
    return (nodes + LANES - 1) // LANES * LANES


@compiled
def _grid_buffers(count):
    weights = np.empty((count, DEGREE + 1), np.float32)
    return np.empty(count, np.int32), np.empty(count, np.float32), weights


@compiled
def _locate(logits, lowest, steepness, cells, fractions):
    """The first of the 8 nodes of each class, and how far it lies between two nodes."""
    scale = steepness / STEP
    for i in range(logits.shape[0]):
        position = (np.float64(logits[i]) - lowest) * scale
        cell = np.int32(position)
        cells[i] = cell
        fractions[i] = position - cell


@compiled
def _weights(fractions, pieces, weights):
    """``weights`` (points, 8): a polynomial of the fraction for each tap."""
    top = pieces.shape[0] - 1
    column = np.empty(fractions.shape[0], np.float32)
    for tap in range(DEGREE + 1):
        column[:] = pieces[top, tap]
        for power in range(top - 1, -1, -1):
            coefficient = pieces[power, tap]
            for i in range(fractions.shape[0]):
                column[i] = column[i] * fractions[i] + coefficient
        for i in range(fractions.shape[0]):
            weights[i, tap] = column[i]


def _eight(context, builder, array_type, array, first):
    """A pointer to eight floats of an array, for LLVM's own vector type."""
    data = context.make_array(array_type)(context, builder, array).data
    vector = ir.VectorType(ir.FloatType(), 8)
    return builder.bitcast(builder.gep(data, [first]), vector.as_pointer())


def _scaled(builder, pointer, factor):
    vector = ir.VectorType(ir.FloatType(), 8)
    lanes = ir.Constant(vector, ir.Undefined)
    for lane in range(8):
        lanes = builder.insert_element(lanes, factor, ir.Constant(ir.IntType(32), lane))
    return builder.fmul(builder.load(pointer, align=4), lanes, flags=('contract',))


@intrinsic
def _add_lanes(typingctx, nodes, first, weights, factor):
    """``nodes[first : first + 8] += factor * weights``: Numba leaves loops this short scalar."""

    def build(context, builder, signature, args):
        target = _eight(context, builder, signature.args[0], args[0], args[1])
        start = ir.Constant(ir.IntType(64), 0)
        source = _eight(context, builder, signature.args[2], args[2], start)
        added = _scaled(builder, source, args[3])
        sum_ = builder.fadd(builder.load(target, align=4), added, flags=('contract',))
        builder.store(sum_, target, align=4)
        return context.get_dummy_value()

    return types.void(nodes, types.int64, weights, types.float32), build


@intrinsic
def _take_lanes(typingctx, sums, nodes, first, factor):
    """``sums += factor * nodes[first : first + 8]``, likewise."""

    def build(context, builder, signature, args):
        start = ir.Constant(ir.IntType(64), 0)
        target = _eight(context, builder, signature.args[0], args[0], start)
        source = _eight(context, builder, signature.args[1], args[1], args[2])
        added = _scaled(builder, source, args[3])
        sum_ = builder.fadd(builder.load(target, align=4), added, flags=('contract',))
        builder.store(sum_, target, align=4)
        return context.get_dummy_value()

    return types.void(sums, nodes, types.int64, types.float32), build


@compiled
def spread_rows(preds_S, preds_T, steepness, rows, all_rows, grid):
    """Adds the 8 x 8 weights of the classes in ``rows``; ``grid[i]`` is for ``all_rows[i]``."""
    count = preds_S.shape[1]
    width = grid.shape[2]
    chunk = min(CHUNK, count)
    cells_T, fractions_T, weights_T = _grid_buffers(chunk)
    cells_S, fractions_S, weights_S = _grid_buffers(chunk)
    for index in range(rows.shape[0]):
        s, t = preds_S[rows[index]], preds_T[rows[index]]
        nodes = grid[np.searchsorted(all_rows, rows[index])].reshape(-1)
        min_S, _, min_T, _ = _range(s, t)
        for start in range(0, count, chunk):
            size = min(chunk, count - start)
            _locate(t[start : start + size], min_T, steepness, cells_T, fractions_T)
            _locate(s[start : start + size], min_S, steepness, cells_S, fractions_S)
            _weights(fractions_T[:size], PIECES, weights_T)
            _weights(fractions_S[:size], PIECES, weights_S)
            for i in range(size):
                w = weights_S[i]
                first = np.int64(cells_T[i]) * width + np.int64(cells_S[i])
                for tap in range(DEGREE + 1):
                    _add_lanes(nodes, first + tap * width, w, weights_T[i, tap])


@compiled
def gather_rows(preds_S, preds_T, steepness, rows, all_rows, field, grad):
    """Writes the gradient, the derivative of a spline; ``field[i]`` is for ``all_rows[i]``."""
    count = preds_S.shape[1]
    width = field.shape[2]
    factor = np.float32(-2.0 * steepness / (count * (count - 1)) / STEP)
    chunk = min(CHUNK, count)
    cells_T, fractions_T, weights_T = _grid_buffers(chunk)
    cells_S, fractions_S, weights_S = _grid_buffers(chunk)
    for index in range(rows.shape[0]):
        s, t = preds_S[rows[index]], preds_T[rows[index]]
        nodes = field[np.searchsorted(all_rows, rows[index])].reshape(-1)
        min_S, _, min_T, _ = _range(s, t)
        for start in range(0, count, chunk):
            size = min(chunk, count - start)
            _locate(t[start : start + size], min_T, steepness, cells_T, fractions_T)
            _locate(s[start : start + size], min_S, steepness, cells_S, fractions_S)
            _weights(fractions_T[:size], PIECES, weights_T)
            _weights(fractions_S[:size], PIECES_SLOPE, weights_S)
            out = grad[rows[index], start : start + size]
            sums = np.empty(8, np.float32)
            for i in range(size):
                w = weights_S[i]
                first = np.int64(cells_T[i]) * width + np.int64(cells_S[i])
                sums[:] = np.float32(0)
                for tap in range(DEGREE + 1):
                    _take_lanes(sums, nodes, first + tap * width, weights_T[i, tap])
                total = np.float32(0)
                for lane in range(8):
                    total += sums[lane] * w[lane]
                out[i] = factor * total


def convolution_matrix(num_nodes):
    """(nodes, nodes) float32: c[p - q], +-1 beyond ``REACH``."""
    beyond = np.ones(max(0, num_nodes - 1 - REACH), np.float32)
    kernel = np.concatenate([-beyond, GRID_KERNEL, beyond])
    middle = len(kernel) // 2
    kernel = kernel[middle - num_nodes + 1 : middle + num_nodes]
    windows = np.lib.stride_tricks.sliding_window_view(kernel[::-1], num_nodes)
    return np.ascontiguousarray(windows[::-1])


# ----------------------------------------------------------------------- the exact coefficient


@compiled(fastmath=False)
def tau_b_rows(preds_S, preds_T, rows, tau):
    """Kendall's tau-b of each row into ``tau`` (N,), float64: Knight's count, O(C log C).

    Discordant pairs are the inversions that are left after sorting by (t, s).
    """
    count = preds_S.shape[1]
    keys, spare_keys, spare_order, histogram = _sort_buffers(count)
    keys_S, keys_T = np.empty(count, np.uint64), np.empty(count, np.uint64)
    order, order_T = np.empty(count, np.int32), np.empty(count, np.int32)
    ranks_S = np.empty(count, np.int32)
    ranks = np.empty(count, np.int32)
    words, words_before, groups_before = _bit_buffers(count)
    num_bytes = preds_S.itemsize
    pairs = count * (count - 1) / 2
    for row in rows:
        s, t = preds_S[row], preds_T[row]
        if np.isnan(s).any() or np.isnan(t).any():
            tau[row] = np.nan
            continue
        _sort_keys(s, keys_S)
        _sort_keys(t, keys_T)
        for i in range(count):
            order[i] = i
        keys[:] = keys_T
        _stable_sort(keys, order, num_bytes, spare_keys, spare_order, histogram)
        tied_T = _tied_pairs(keys)
        order_T[:] = order
        for i in range(count):
            keys[i] = keys_S[order[i]]
        # The sort is stable, so ties in s are in the order of t: they make no inversion.
        _stable_sort(keys, order, num_bytes, spare_keys, spare_order, histogram)
        tied_S = _tied_pairs(keys)
        tied_both = 0
        run = 0
        for i in range(count):
            ranks_S[order[i]] = i
            same = i > 0 and keys[i] == keys[i - 1] and keys_T[order[i]] == keys_T[order[i - 1]]
            run = run + 1 if same else 0
            tied_both += run
        if tied_T:
            for i in range(count):
                keys[i] = keys_T[order[i]]
            _stable_sort(keys, order, num_bytes, spare_keys, spare_order, histogram)
        else:
            order[:] = order_T
        for i in range(count):
            ranks[i] = ranks_S[order[i]]
        discordant = pairs - _concordant_pairs(ranks, words, words_before, groups_before)
        score = pairs - tied_S - tied_T + tied_both - 2 * discordant
        untied = np.sqrt(pairs - tied_S) * np.sqrt(pairs - tied_T)
        tau[row] = score / untied


@compiled(fastmath=False)
def _tied_pairs(keys):
    tied = 0
    run = 0
    for i in range(1, keys.shape[0]):
        run = run + 1 if keys[i] == keys[i - 1] else 0
        tied += run
    return tied


# -------------------------------------------------------------------------------------- choice

NOT_POSSIBLE, NOT_FINITE, DENSE, WINDOW, GRID = -2, -1, 0, 1, 2
# Four grids of this many nodes take 14 MB.
MAX_NODES = 900_000
# Closer together than this, float32 weights on a grid lose the differences between the logits.
MIN_GRID_RANGE = 0.5
# The share of the pairs less than 9 / k apart is about this over k times the range.
WINDOW_SHARE = 33.0


@compiled(fastmath=False)
def _all_finite(logits):
    poison = logits[0] - logits[0]
    for i in range(logits.shape[0]):
        poison += logits[i] - logits[i]
    return poison == 0


@compiled
def choose_algorithms(preds_S, preds_T, steepness, surrogate, forced, codes, sizes):
    """Writes the fastest algorithm for each row, or ``forced`` (-1: none); estimates the seconds.

    ``sizes`` (N, 2) gets the nodes along t and s of the rows that can take the grid.

    The costs are nanoseconds measured on one core with 256-bit vectors; only their ratios matter.
    """
    num_rows, count = preds_S.shape
    is_single = preds_S.itemsize == 4
    wide = 1.0 if is_single else 2.5
    pairs = count * (count - 1) / 2
    seconds = 0.0
    for row in range(num_rows):
        s, t = preds_S[row], preds_T[row]
        if not (_all_finite(s) and _all_finite(t)):
            codes[row] = NOT_FINITE
            continue
        min_S, max_S, min_T, max_T = _range(s, t)
        range_S, range_T = steepness * (max_S - min_S), steepness * (max_T - min_T)
        best = DENSE
        can_window = surrogate != DIFFKENDALL
        can_grid = (
            surrogate == PRODUCT
            and is_single
            and min(range_S, range_T) >= MIN_GRID_RANGE
            # Before anything is rounded to an integer: a range may be as large as 1e38.
            and range_S * range_T <= MAX_NODES * STEP**2
            and grid_size(range_S, 1.0) * grid_size(range_T, 1.0) <= MAX_NODES
        )
        if (forced == WINDOW and not can_window) or (forced == GRID and not can_grid):
            codes[row] = NOT_POSSIBLE
            continue
        is_ratio = surrogate == PRODUCT and max(range_S, range_T) <= RATIO_RANGE
        each_pair, each_class = (0.35, 20.0) if is_ratio else (0.9, 45.0)
        cost = wide * pairs * each_pair + each_class * count
        if can_window:
            near_S = pairs * wide * min(1.0, WINDOW_SHARE * wide / max(range_S, 1.0))
            near_T = pairs * wide * min(1.0, WINDOW_SHARE * wide / max(range_T, 1.0))
            if surrogate == HARD_TEACHER:
                near_T = 0.0
            window_cost = 1500.0 + 40.0 * wide * count + 1.2 * near_S + 0.5 * near_T
            if window_cost < cost:
                best, cost = WINDOW, window_cost
        if can_grid:
            height, width = grid_size(range_T, 1.0), grid_size(range_S, 1.0)
            sizes[row, 0], sizes[row, 1] = height, width
            grid_cost = 80.0 * count + height * width * (height + width) * 0.03
            if grid_cost < cost:
                best, cost = GRID, grid_cost
        codes[row] = best if forced < 0 else forced
        seconds += cost * 1e-9
    return seconds

"""Sorting, and how two orders agree."""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import overload

from mmkendall.functional.backends.numba_loops.basics import compiled, copy, fill


@compiled(fastmath=False)
def _sort_by_byte(byte, words, to, starts):
    """``starts`` says where the first word with each value of that byte goes."""
    shift = np.uint64(8 * byte)
    for word in words:
        digit = (word >> shift) & np.uint64(255)
        position = starts[digit]
        starts[digit] = position + np.uint64(1)
        to[position] = word


def argsort(logits, order, ordered):
    """Writes the classes, as their logits ascend, into ``order`` (int32), these into ``ordered``.

    Stable. No NaN; -0.0 becomes 0.0.
    """


@overload(argsort)
def _overload_argsort(logits, order, ordered):
    if logits.dtype == types.float64:

        def sort_double(logits, order, ordered):
            copy(np.argsort(logits, kind='mergesort'), order)
            for i in range(order.shape[0]):
                ordered[i] = logits[order[i]]

        return sort_double

    def impl(logits, order, ordered):
        count = logits.shape[0]
        both, starts = np.empty((2, count), np.uint64), np.empty((4, 256), np.uint64)
        words, others = both[0], both[1]
        for i in range(count):
            # The upper half orders as the logits do, with one for -0.0 and 0.0; the lower is the
            # class.
            bits = np.float32(logits[i]).view(np.int32) if logits[i] != 0 else np.int32(0)
            key = np.uint32(bits ^ ((bits >> 31) | np.int32(-(2**31))))
            words[i] = (np.uint64(key) << np.uint64(32)) | np.uint64(i)
        for byte in range(4):
            fill(starts[byte], 0)
        for word in words:
            for byte in range(4):
                starts[byte, (word >> np.uint64(32 + 8 * byte)) & np.uint64(255)] += np.uint64(1)
        for byte in range(4):
            position = np.uint64(0)
            for digit in range(256):
                size = starts[byte, digit]
                starts[byte, digit] = position
                position += size
        for byte in (0, 2):
            _sort_by_byte(byte + 4, words, others, starts[byte])
            _sort_by_byte(byte + 5, others, words, starts[byte + 1])
        for i in range(count):
            order[i] = np.int32(words[i] & np.uint64(0xFFFFFFFF))
            key = np.int32(words[i] >> np.uint64(32))
            bits = np.int32(key ^ (~(key >> 31) | np.int32(-(2**31))))
            ordered[i] = bits.view(np.float32)

    return impl


@compiled(fastmath=False)
def sort_both(x, y, order, sorted_x, sorted_y):
    """The logits as ``x`` ascends, those tied in it as they come."""
    argsort(x, order, sorted_x)
    for i in range(x.shape[0]):
        sorted_y[i] = y[order[i]]


@compiled(fastmath=False)
def _count_bits(word):
    """The ones in a uint64. LLVM knows this way and makes one instruction of it."""
    word -= (word >> np.uint64(1)) & np.uint64(0x5555555555555555)
    low = word & np.uint64(0x3333333333333333)
    word = low + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@compiled(fastmath=False)
def concordant_pairs(ranks):
    """How many pairs i < j have ``ranks[i] < ranks[j]``, for a permutation ``ranks``.

    A bit for each rank seen so far; counts of the bits before each word of its group of 64 words,
    and before each group.
    """
    num_words = (ranks.shape[0] + 63) >> 6
    wide, words_before = np.empty((2, num_words), np.uint64), np.empty(num_words, np.int32)
    words, groups_before = wide[0], wide[1, : (num_words + 63) >> 6]
    fill(words, 0)
    fill(words_before, 0)
    fill(groups_before, 0)
    concordant = 0
    for i in range(ranks.shape[0]):
        rank = np.int64(ranks[i])
        word = rank >> 6
        group = word >> 6
        bit = np.uint64(1) << np.uint64(rank & 63)
        concordant += np.int64(groups_before[group]) + words_before[word]
        concordant += _count_bits(words[word] & (bit - np.uint64(1)))
        words[word] |= bit
        # All words of the group: a loop that begins at the next one would not be vectorised.
        same_group = words_before[group << 6 : min((group + 1) << 6, words.shape[0])]
        own = np.int32(word & 63)
        for other in range(same_group.shape[0]):
            same_group[other] += np.int32(other) > own
        for later in range(group + 1, groups_before.shape[0]):
            groups_before[later] += np.uint64(1)
    return concordant

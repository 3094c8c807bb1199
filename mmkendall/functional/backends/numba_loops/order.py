"""Sorting, and how two orders agree."""

from __future__ import annotations

import numpy as np

from mmkendall.functional.backends.numba_loops.basics import compiled, fill


@compiled(fastmath=False)
def _fill_keys(logits, keys):
    """Unsigned integers in the order of the logits; -0.0 and 0.0 share one."""
    if logits.itemsize == 4:
        for i in range(logits.shape[0]):
            bits = np.float32(logits[i] + np.float32(0)).view(np.int32)
            keys[i] = np.uint64(np.uint32(bits ^ ((bits >> 31) | np.int32(-(2**31)))))
    else:
        for i in range(logits.shape[0]):
            bits = np.float64(logits[i] + 0.0).view(np.int64)
            keys[i] = np.uint64(bits ^ ((bits >> np.int64(63)) | np.int64(-(2**63))))


@compiled(fastmath=False)
def _sort_by_byte(byte, keys, order, to_keys, to_order, starts):
    shift = np.uint64(8 * byte)
    fill(starts, 0)
    for key in keys:
        starts[np.int64((key >> shift) & np.uint64(255))] += 1
    position = 0
    for digit in range(256):
        size = starts[digit]
        starts[digit] = position
        position += size
    for i in range(keys.shape[0]):
        digit = np.int64((keys[i] >> shift) & np.uint64(255))
        position = starts[digit]
        starts[digit] = position + 1
        to_keys[position], to_order[position] = keys[i], order[i]


@compiled(fastmath=False)
def argsort(logits, order):
    """Writes the classes into ``order`` (int32) as their logits ascend; stable. No NaN."""
    count = logits.shape[0]
    keys, spare_keys = np.empty(count, np.uint64), np.empty(count, np.uint64)
    spare_order, starts = np.empty(count, np.int32), np.empty(256, np.int32)
    _fill_keys(logits, keys)
    for i in range(count):
        order[i] = i
    for byte in range(0, logits.itemsize, 2):
        _sort_by_byte(byte, keys, order, spare_keys, spare_order, starts)
        _sort_by_byte(byte + 1, spare_keys, spare_order, keys, order, starts)


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
    words, words_before = np.zeros(num_words, np.uint64), np.zeros(num_words, np.int32)
    groups_before = np.zeros((num_words + 63) >> 6, np.int64)
    concordant = 0
    for i in range(ranks.shape[0]):
        rank = np.int64(ranks[i])
        word = rank >> 6
        group = word >> 6
        bit = np.uint64(1) << np.uint64(rank & 63)
        concordant += groups_before[group] + words_before[word]
        concordant += _count_bits(words[word] & (bit - np.uint64(1)))
        words[word] |= bit
        # All words of the group: a loop that begins at the next one would not be vectorised.
        same_group = words_before[group << 6 : min((group + 1) << 6, words.shape[0])]
        own = np.int32(word & 63)
        for other in range(same_group.shape[0]):
            same_group[other] += np.int32(other) > own
        for later in range(group + 1, groups_before.shape[0]):
            groups_before[later] += 1
    return concordant

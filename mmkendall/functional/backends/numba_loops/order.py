"""Sorting, and how two orders agree."""

from __future__ import annotations

import numpy as np

from mmkendall.functional.backends.numba_loops.basics import compiled
from mmkendall.functional.backends.numba_loops.vectors import count_bits


@compiled(fastmath=False)
def sort_keys(logits, keys):
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
def stable_sort(keys, order, num_bytes, spare_keys, spare_order, histogram):
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
def argsort(logits, order, num_bytes, buffers):
    """Writes the classes into ``order`` (int32) as their logits ascend; stable. No NaN.

    ``num_bytes`` of a logit, as a literal where it is known: LLVM unrolls the sort then.
    """
    keys, spare_keys, spare_order, histogram = buffers
    sort_keys(logits, keys)
    for i in range(logits.shape[0]):
        order[i] = i
    stable_sort(keys, order, num_bytes, spare_keys, spare_order, histogram)


@compiled(fastmath=False)
def concordant_pairs(ranks, words, words_before, groups_before):
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
            + count_bits(words[word] & (bit - np.uint64(1)))
        )
        words[word] |= bit
        # All words of the group: a loop that begins at the next one would not be vectorised.
        same_group = words_before[group << 6 : min((group + 1) << 6, words.shape[0])]
        own = np.int32(word & 63)
        for other in range(same_group.shape[0]):
            same_group[other] += np.int32(other) > own
        for later in range(group + 1, groups_before.shape[0]):
            groups_before[later] += 1
    return concordant


@compiled
def sort_buffers(count):
    return (
        np.empty(count, np.uint64),
        np.empty(count, np.uint64),
        np.empty(count, np.int32),
        np.empty((8, 256), np.int32),
    )


@compiled
def bit_buffers(count):
    num_words = (count + 63) >> 6
    return (
        np.empty(num_words, np.uint64),
        np.empty(num_words, np.int32),
        np.empty((num_words + 63) >> 6, np.int64),
    )

"""The exact coefficient."""

from __future__ import annotations

import numpy as np

from mmkendall.functional.backends.numba_loops.basics import compiled
from mmkendall.functional.backends.numba_loops.order import (
    bit_buffers,
    concordant_pairs,
    sort_buffers,
    sort_keys,
    stable_sort,
)


@compiled(fastmath=False)
def tau_b_rows(preds_S, preds_T, rows, tau):
    """Kendall's tau-b of each row into ``tau`` (N,), float64: Knight's count, O(C log C).

    Discordant pairs are the inversions that are left after sorting by (t, s).
    """
    count = preds_S.shape[1]
    keys, spare_keys, spare_order, histogram = sort_buffers(count)
    keys_S, keys_T = np.empty(count, np.uint64), np.empty(count, np.uint64)
    order, order_T = np.empty(count, np.int32), np.empty(count, np.int32)
    ranks_S = np.empty(count, np.int32)
    ranks = np.empty(count, np.int32)
    words, words_before, groups_before = bit_buffers(count)
    num_bytes = preds_S.itemsize
    pairs = count * (count - 1) / 2
    for row in rows:
        s, t = preds_S[row], preds_T[row]
        if np.isnan(s).any() or np.isnan(t).any():
            tau[row] = np.nan
            continue
        sort_keys(s, keys_S)
        sort_keys(t, keys_T)
        for i in range(count):
            order[i] = i
        keys[:] = keys_T
        stable_sort(keys, order, num_bytes, spare_keys, spare_order, histogram)
        tied_T = _tied_pairs(keys)
        order_T[:] = order
        for i in range(count):
            keys[i] = keys_S[order[i]]
        # The sort is stable, so ties in s are in the order of t: they make no inversion.
        stable_sort(keys, order, num_bytes, spare_keys, spare_order, histogram)
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
            stable_sort(keys, order, num_bytes, spare_keys, spare_order, histogram)
        else:
            order[:] = order_T
        for i in range(count):
            ranks[i] = ranks_S[order[i]]
        discordant = pairs - concordant_pairs(ranks, words, words_before, groups_before)
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

"""The exact coefficient."""

from __future__ import annotations

import numpy as np

from mmkendall.functional.backends.numba_loops.basics import compiled, entry
from mmkendall.functional.backends.numba_loops.order import concordant_pairs, sort_both


@compiled(fastmath=False)
def _tied_pairs(x, y):
    """The pairs that are tied in ``x``, which ascends, and those tied in both."""
    tied = tied_both = run = run_both = 0
    for i in range(1, x.shape[0]):
        run = run + 1 if x[i] == x[i - 1] else 0
        run_both = run_both + 1 if run and y[i] == y[i - 1] else 0
        tied += run
        tied_both += run_both
    return tied, tied_both


@entry(fastmath=False)
def tau_b_rows(preds_S, preds_T, rows, tau):
    """Kendall's tau-b of each row into ``tau`` (N,), float64: Knight's count, O(C log C).

    Discordant pairs are the inversions that are left after sorting by (t, s).
    """
    count = preds_S.shape[1]
    order = np.empty(count, np.int32)
    table = np.empty((4, count), preds_S.dtype)
    s, t, other_s, other_t = table[0], table[1], table[2], table[3]
    pairs = count * (count - 1) / 2
    for row in rows:
        if np.isnan(preds_S[row]).any() or np.isnan(preds_T[row]).any():
            tau[row] = np.nan
            continue
        # Sorts are stable: ties in s come as t ascends, and then ties in t as s ascends.
        sort_both(preds_T[row], preds_S[row], order, other_t, other_s)
        sort_both(other_s, other_t, order, s, t)
        tied_S, _ = _tied_pairs(s, t)
        sort_both(t, s, order, other_t, other_s)
        tied_T, tied_both = _tied_pairs(other_t, other_s)
        score = 2 * concordant_pairs(order) - pairs - tied_S - tied_T + tied_both
        tau[row] = score / (np.sqrt(pairs - tied_S) * np.sqrt(pairs - tied_T))
    return 0.0

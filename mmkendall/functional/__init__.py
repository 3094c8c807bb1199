"""Plain torch functions: the ranking loss, the exact coefficient, and what the loss can see."""

from mmkendall.functional.diagnostics import PairShares, live_pair_share, pair_shares
from mmkendall.functional.rank_loss import SURROGATES, kendall_rank_loss
from mmkendall.functional.tau import kendall_tau

__all__ = [
    'SURROGATES',
    'PairShares',
    'kendall_rank_loss',
    'kendall_tau',
    'live_pair_share',
    'pair_shares',
]

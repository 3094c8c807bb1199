"""Plain torch functions, which need nothing but torch.

Losses on the order of logits (N, C): :func:`kendall_rank_loss`, :func:`pld_loss`,
:func:`listmle_loss`; against stored top-k scores (N, K): :func:`kendall_rank_loss_topk`; of a
linear head with too many classes for logits in memory: :func:`linear_kendall_rank_loss`, and for
any loss of rows :func:`linear_head_losses`. Losses on their values: :func:`kd_loss`,
:func:`dkd_loss`, :func:`ctkd_loss`, :func:`mlkd_loss`, :func:`wttm_loss`, :func:`bild_loss`,
:func:`dist_loss`, :func:`pearson_loss`. What may stand before any of them: z-scores
(:func:`standardize`), and normal scores of a teacher's ranks (:func:`order_scores`). How alike two
rankings are: :func:`kendall_tau`. What the ranking loss can see: :func:`live_pair_share`,
:func:`pair_shares`.
"""

from mmkendall.functional.bild import bild_loss
from mmkendall.functional.ctkd import ctkd_loss
from mmkendall.functional.diagnostics import PairShares, live_pair_share, pair_shares
from mmkendall.functional.dist import dist_loss, pearson_loss
from mmkendall.functional.dkd import dkd_loss
from mmkendall.functional.kd import kd_loss
from mmkendall.functional.linear_head import linear_head_losses, linear_kendall_rank_loss
from mmkendall.functional.listwise import listmle_loss, pld_loss
from mmkendall.functional.mlkd import mlkd_loss
from mmkendall.functional.order_scores import order_scores
from mmkendall.functional.rank_loss import SURROGATES, kendall_rank_loss
from mmkendall.functional.standardize import standardize
from mmkendall.functional.stored_topk import kendall_rank_loss_topk
from mmkendall.functional.tau import kendall_tau
from mmkendall.functional.wttm import wttm_loss

__all__ = [
    'SURROGATES',
    'PairShares',
    'bild_loss',
    'ctkd_loss',
    'dist_loss',
    'dkd_loss',
    'kd_loss',
    'kendall_rank_loss',
    'kendall_rank_loss_topk',
    'kendall_tau',
    'linear_head_losses',
    'linear_kendall_rank_loss',
    'listmle_loss',
    'live_pair_share',
    'mlkd_loss',
    'order_scores',
    'pair_shares',
    'pearson_loss',
    'pld_loss',
    'standardize',
    'wttm_loss',
]

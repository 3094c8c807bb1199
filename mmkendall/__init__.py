"""Kendall's tau ranking loss for knowledge distillation.

Importing this package needs torch and nothing else. The OpenMMLab components live in
``mmkendall.models`` and register themselves when a config names them (``mmkendall.registry``).
"""

from mmkendall.functional import (
    kendall_rank_loss,
    kendall_rank_loss_topk,
    kendall_tau,
    live_pair_share,
)
from mmkendall.version import __version__

__all__ = [
    '__version__',
    'kendall_rank_loss',
    'kendall_rank_loss_topk',
    'kendall_tau',
    'live_pair_share',
]

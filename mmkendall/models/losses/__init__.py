from mmkendall.models.losses.bild_loss import BiLDLoss
from mmkendall.models.losses.ctkd_loss import CTKDLoss
from mmkendall.models.losses.dense_logit_loss import DenseLogitLoss
from mmkendall.models.losses.dkd_loss import DKDLoss
from mmkendall.models.losses.kd_loss import KDLoss
from mmkendall.models.losses.kendall_rank_loss import KendallRankLoss
from mmkendall.models.losses.listmle_loss import ListMLELoss
from mmkendall.models.losses.mlkd_loss import MLKDLoss
from mmkendall.models.losses.pearson_loss import PearsonLoss
from mmkendall.models.losses.pld_loss import PLDLoss
from mmkendall.models.losses.wttm_loss import WTTMLoss

__all__ = [
    'BiLDLoss',
    'CTKDLoss',
    'DKDLoss',
    'DenseLogitLoss',
    'KDLoss',
    'KendallRankLoss',
    'ListMLELoss',
    'MLKDLoss',
    'PLDLoss',
    'PearsonLoss',
    'WTTMLoss',
]

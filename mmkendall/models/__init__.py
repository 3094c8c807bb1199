"""What a config can name in place of a model, a loss, a connector or a distiller."""

from mmkendall.models import data_preprocessors, distillers
from mmkendall.models.connectors import LogitStandardization
from mmkendall.models.losses import CTKDLoss, DKDLoss, KendallRankLoss, MLKDLoss

__all__ = [
    'CTKDLoss',
    'DKDLoss',
    'KendallRankLoss',
    'LogitStandardization',
    'MLKDLoss',
    'data_preprocessors',
    'distillers',
]

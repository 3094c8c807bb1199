"""What a config can name in place of a model, a loss, a connector or a distiller."""

from mmkendall.models.algorithms import LogitDistill
from mmkendall.models.losses import KendallRankLoss

__all__ = ['KendallRankLoss', 'LogitDistill']

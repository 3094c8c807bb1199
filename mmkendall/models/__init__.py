"""What a config can name in place of a model, a loss, a connector or a distiller."""

from mmkendall.models import data_preprocessors, distillers
from mmkendall.models.algorithms import LogitDistill, RoILogitDistill
from mmkendall.models.backbones import (
    CifarMobileNetV2,
    CifarResNet,
    CifarShuffleNetV1,
    CifarShuffleNetV2,
    CifarStemResNet,
    CifarVGG,
    MobileNetV1,
    ResizedInput,
    WideResNet,
)
from mmkendall.models.connectors import LogitStandardization, OrderScores, SelectClasses
from mmkendall.models.losses import (
    BiLDLoss,
    CTKDLoss,
    DenseLogitLoss,
    DKDLoss,
    KDLoss,
    KendallRankLoss,
    ListMLELoss,
    MLKDLoss,
    PearsonLoss,
    PLDLoss,
    WTTMLoss,
)
from mmkendall.models.necks import FirstToken

__all__ = [
    'BiLDLoss',
    'CTKDLoss',
    'CifarMobileNetV2',
    'CifarResNet',
    'CifarShuffleNetV1',
    'CifarShuffleNetV2',
    'CifarStemResNet',
    'CifarVGG',
    'DKDLoss',
    'DenseLogitLoss',
    'FirstToken',
    'KDLoss',
    'KendallRankLoss',
    'ListMLELoss',
    'LogitDistill',
    'LogitStandardization',
    'MLKDLoss',
    'MobileNetV1',
    'OrderScores',
    'PLDLoss',
    'PearsonLoss',
    'ResizedInput',
    'RoILogitDistill',
    'SelectClasses',
    'WTTMLoss',
    'WideResNet',
    'data_preprocessors',
    'distillers',
]

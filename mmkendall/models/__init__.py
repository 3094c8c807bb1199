"""What a config can name in place of a model, a loss, a connector or a distiller."""

from mmkendall.models import data_preprocessors, distillers
from mmkendall.models.algorithms import LogitDistill
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
from mmkendall.models.connectors import LogitStandardization
from mmkendall.models.losses import CTKDLoss, DKDLoss, KendallRankLoss, MLKDLoss
from mmkendall.models.necks import FirstToken

__all__ = [
    'CTKDLoss',
    'CifarMobileNetV2',
    'CifarResNet',
    'CifarShuffleNetV1',
    'CifarShuffleNetV2',
    'CifarStemResNet',
    'CifarVGG',
    'DKDLoss',
    'FirstToken',
    'KendallRankLoss',
    'LogitDistill',
    'LogitStandardization',
    'MLKDLoss',
    'MobileNetV1',
    'ResizedInput',
    'WideResNet',
    'data_preprocessors',
    'distillers',
]

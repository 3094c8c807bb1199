"""What a config can name in place of a model, a loss, a connector or a distiller."""

from mmkendall.models.backbones import (
    CifarMobileNetV2,
    CifarResNet,
    CifarShuffleNetV1,
    CifarShuffleNetV2,
    CifarStemResNet,
    CifarVGG,
    MobileNetV1,
    WideResNet,
)
from mmkendall.models.losses import KendallRankLoss

__all__ = [
    'CifarMobileNetV2',
    'CifarResNet',
    'CifarShuffleNetV1',
    'CifarShuffleNetV2',
    'CifarStemResNet',
    'CifarVGG',
    'KendallRankLoss',
    'MobileNetV1',
    'WideResNet',
]

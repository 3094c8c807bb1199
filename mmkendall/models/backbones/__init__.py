"""The networks of the distillation literature that mmpretrain lacks, for 32x32 and ImageNet,
and small ones for grey images."""

from mmkendall.models.backbones.cifar_mobilenet_v2 import CifarMobileNetV2
from mmkendall.models.backbones.cifar_resnet import CifarResNet, CifarStemResNet
from mmkendall.models.backbones.cifar_shufflenet_v1 import CifarShuffleNetV1
from mmkendall.models.backbones.cifar_shufflenet_v2 import CifarShuffleNetV2
from mmkendall.models.backbones.cifar_vgg import CifarVGG
from mmkendall.models.backbones.mobilenet_v1 import MobileNetV1
from mmkendall.models.backbones.resized_input import ResizedInput
from mmkendall.models.backbones.small_nets import MLP, ConvNet, LeNet
from mmkendall.models.backbones.wide_resnet import WideResNet

__all__ = [
    'MLP',
    'CifarMobileNetV2',
    'CifarResNet',
    'CifarShuffleNetV1',
    'CifarShuffleNetV2',
    'CifarStemResNet',
    'CifarVGG',
    'ConvNet',
    'LeNet',
    'MobileNetV1',
    'ResizedInput',
    'WideResNet',
]

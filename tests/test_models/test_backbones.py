"""The networks of the zoo: sizes as published, shapes, initialisation, refusals."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS as ROOT

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
from mmkendall.models.backbones.base import channel_shuffle

CONFIGS = Path(__file__).parents[2] / 'configs' / '_base_' / 'models'

# Parameters of mdistiller's networks, classifier included: 100 classes, MobileNetV1 1000.
PARAMETERS = {
    'cifar100/resnet8': 83_892,
    'cifar100/resnet14': 181_108,
    'cifar100/resnet20': 278_324,
    'cifar100/resnet32': 472_756,
    'cifar100/resnet44': 667_188,
    'cifar100/resnet56': 861_620,
    'cifar100/resnet110': 1_736_564,
    'cifar100/resnet8x4': 1_233_540,
    'cifar100/resnet32x4': 7_433_860,
    'cifar100/resnet18': 11_220_132,
    'cifar100/resnet50': 23_705_252,
    'cifar100/wrn_16_1': 180_916,
    'cifar100/wrn_16_2': 703_284,
    'cifar100/wrn_40_1': 569_780,
    'cifar100/wrn_40_2': 2_255_156,
    'cifar100/vgg8': 3_965_028,
    'cifar100/vgg11': 9_277_284,
    'cifar100/vgg13': 9_462_180,
    'cifar100/vgg16': 14_774_436,
    'cifar100/vgg19': 20_086_692,
    'cifar100/mobilenet_v2': 812_836,
    'cifar100/shufflenet_v1': 949_258,
    'cifar100/shufflenet_v2': 1_355_528,
    'imagenet/mobilenet_v1': 4_231_976,
}


@pytest.mark.parametrize('name', PARAMETERS)
def test_parameters_are_as_published(name):
    network = Config.fromfile(CONFIGS / f'{name}.py')[Path(name).name]
    backbone = ROOT.build(network.backbone)
    classifier = torch.nn.Linear(network.head.in_channels, network.head.num_classes)
    count = sum(
        value.numel() for module in (backbone, classifier) for value in module.parameters()
    )
    assert count == PARAMETERS[name]
    (features,) = backbone.eval()(torch.zeros(1, 3, 32, 32))
    assert features.shape[1] == network.head.in_channels


# Channels and side of each stage.
STAGES = [
    (CifarResNet, dict(depth=8), 32, [(16, 32), (32, 16), (64, 8)]),
    (
        CifarResNet,
        dict(depth=8, stem_channels=32, base_channels=64),
        32,
        [(64, 32), (128, 16), (256, 8)],
    ),
    (CifarStemResNet, dict(depth=18), 32, [(64, 32), (128, 16), (256, 8), (512, 4)]),
    (CifarStemResNet, dict(depth=50), 32, [(256, 32), (512, 16), (1024, 8), (2048, 4)]),
    (WideResNet, dict(depth=16, widen_factor=2), 32, [(32, 32), (64, 16), (128, 8)]),
    (CifarVGG, dict(depth=8), 32, [(64, 32), (128, 16), (256, 8), (512, 4), (512, 4)]),
    (
        CifarMobileNetV2,
        dict(),
        32,
        [(8, 16), (12, 16), (16, 8), (32, 4), (48, 4), (80, 2), (160, 2), (1280, 2)],
    ),
    (CifarShuffleNetV1, dict(), 32, [(240, 16), (480, 8), (960, 4)]),
    (CifarShuffleNetV2, dict(), 32, [(116, 16), (232, 8), (464, 4), (1024, 4)]),
    (
        MobileNetV1,
        dict(),
        64,
        [(64, 32), (128, 16), (256, 8), (512, 4), (1024, 2)],
    ),
]


@pytest.mark.parametrize(('backbone', 'kwargs', 'side', 'stages'), STAGES)
def test_stages(backbone, kwargs, side, stages):
    network = backbone(**kwargs, out_indices=tuple(range(len(stages))))
    x = torch.randn(2, 3, side, side)
    maps = network(x)
    assert isinstance(maps, tuple)
    assert [tuple(m.shape) for m in maps] == [(2, c, size, size) for c, size in stages]

    sum(m.square().mean() for m in maps).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())

    last = backbone(**kwargs)
    last.load_state_dict(network.state_dict())
    (only,) = last.eval()(x)
    assert torch.equal(only, network.eval()(x)[-1])


def test_widths_of_shufflenet_v2():
    for widen_factor, channels in {0.5: 1024, 1.5: 1024, 2.0: 2048}.items():
        (features,) = CifarShuffleNetV2(widen_factor)(torch.randn(2, 3, 32, 32))
        assert features.shape == (2, channels, 4, 4)


def test_dropout_acts_in_training_only():
    network = WideResNet(16, drop_rate=0.5)
    x = torch.randn(2, 3, 32, 32)
    assert not torch.equal(network(x)[0], network(x)[0])
    network.eval()
    assert torch.equal(network(x)[0], network(x)[0])


def test_channel_shuffle_interleaves_groups():
    x = torch.arange(6.0).view(1, 6, 1, 1)
    assert channel_shuffle(x, 3).flatten().tolist() == [0, 2, 4, 1, 3, 5]
    assert channel_shuffle(x, 1).flatten().tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ('network', 'key'),
    [
        (CifarResNet(8, 32, 64), 'layer3.0.conv1.weight'),
        (CifarStemResNet(18), 'layer1.0.conv1.weight'),
        (WideResNet(16, 2), 'layer3.1.conv2.weight'),
        (CifarVGG(8), 'layer3.0.weight'),
        # The depthwise convolutions count all outputs, as torch does.
        (CifarMobileNetV2(), 'layer6.1.conv.3.weight'),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_he_initialisation(network, key):
    torch.manual_seed(0)
    network.init_weights()
    weight = network.state_dict()[key]
    deviation = (2 / (weight.shape[0] * weight[0, 0].numel())) ** 0.5
    assert weight.std().item() == pytest.approx(deviation, rel=0.05)
    assert abs(weight.mean().item()) < 0.05 * deviation
    biases = [value for name, value in network.state_dict().items() if name.endswith('.bias')]
    assert all((bias == 0).all() for bias in biases)


@pytest.mark.parametrize('backbone', [CifarShuffleNetV1, CifarShuffleNetV2, MobileNetV1])
def test_torch_initialisation_is_kept(backbone):
    network = backbone()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network.init_weights()
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


@pytest.mark.parametrize(
    ('backbone', 'kwargs', 'message'),
    [
        (CifarResNet, dict(depth=18), r'depth must be 6n \+ 2 .*got 18'),
        (CifarResNet, dict(depth=2), r'depth must be 6n \+ 2 .*got 2'),
        (CifarStemResNet, dict(depth=20), r'depth must be one of \(18, 34.*got 20'),
        (WideResNet, dict(depth=20), r'depth must be 6n \+ 4 .*got 20'),
        (WideResNet, dict(depth=4), r'depth must be 6n \+ 4 .*got 4'),
        (WideResNet, dict(depth=16, widen_factor=0.5), 'widen_factor must be a whole .*got 0.5'),
        (CifarVGG, dict(depth=12), r'depth must be one of \(8, 11.*got 12'),
        (CifarMobileNetV2, dict(widen_factor=0.05), 'widen_factor must be at least .*got 0.05'),
        (CifarShuffleNetV2, dict(widen_factor=0.7), r'widen_factor must be one of .*got 0.7'),
        (MobileNetV1, dict(out_indices=(5,)), r'out_indices must name .* 0 to 4, got \(5,\)'),
        (CifarResNet, dict(depth=8, out_indices=(-1,)), r'out_indices .*got \(-1,\)'),
        (CifarShuffleNetV1, dict(out_indices=()), r'out_indices .*got \(\)'),
    ],
)
def test_refusals(backbone, kwargs, message):
    with pytest.raises(ValueError, match=message):
        backbone(**kwargs)

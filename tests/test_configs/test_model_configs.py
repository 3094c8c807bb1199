"""Every network config builds a classifier, and two of them make a pair."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from ..conftest import needs_mmdet

FOLDER = Path(__file__).parents[2] / 'configs' / '_base_' / 'models'
FILES = sorted(FOLDER.glob('*/*.py'))
CLASSES = {'cifar100': 100, 'imagenet': 1000, 'glyphs': 119}
VITS = {
    'deit_tiny': 5_380_132,
    't2t_vit_7': 4_024_010,
    'pit_tiny': 4_615_972,
    'pvt_tiny': 12_767_588,
}

# The pairs of the CIFAR-100 tables, teacher first; ShuffleNetV1 belongs to DKD's recipes.
PAIRS = [
    ('resnet32x4', 'resnet8x4'),
    ('vgg13', 'vgg8'),
    ('wrn_40_2', 'wrn_40_1'),
    ('wrn_40_2', 'wrn_16_2'),
    ('resnet56', 'resnet20'),
    ('resnet110', 'resnet32'),
    ('resnet110', 'resnet20'),
    ('resnet32x4', 'shufflenet_v2'),
    ('resnet32x4', 'wrn_16_2'),
    ('resnet32x4', 'wrn_40_2'),
    ('wrn_40_2', 'resnet8x4'),
    ('wrn_40_2', 'mobilenet_v2'),
    ('wrn_40_2', 'shufflenet_v1'),
    ('vgg13', 'mobilenet_v2'),
    ('resnet50', 'mobilenet_v2'),
    ('resnet56', 'deit_tiny'),
    ('resnet56', 't2t_vit_7'),
    ('resnet56', 'pit_tiny'),
    ('resnet56', 'pvt_tiny'),
]


def network(name):
    return Config.fromfile(FOLDER / f'{name}.py')[Path(name).name]


def needs_extras(name):
    if name == 'pit_tiny':
        pytest.importorskip('timm')
    if name == 'pvt_tiny':
        needs_mmdet()


@pytest.mark.parametrize('path', FILES, ids=lambda path: f'{path.parent.name}/{path.stem}')
def test_network_builds(path):
    needs_extras(path.stem)
    config = Config.fromfile(path)
    # One variable per file, under the name of the file, so that two files can be inherited.
    assert list(config) == [path.stem]
    classes = CLASSES[path.parent.name]
    config[path.stem].head.setdefault('num_classes', classes)
    model = MODELS.build(config[path.stem]).eval()
    with torch.no_grad():
        logits = model(torch.randn(2, 1 if path.parent.name == 'glyphs' else 3, 32, 32))
    assert logits.shape == (2, classes)
    # Left to the config of the method, which a weight stated here would override.
    assert 'loss_weight' not in config[path.stem].head.get('loss', {})
    # The comment at the head of the file states the size.
    count = sum(value.numel() for value in model.parameters())
    assert f'{count:,} parameters' in path.read_text().replace('\n# ', ' ')


@pytest.mark.parametrize('name', VITS)
def test_vision_transformers(name):
    needs_extras(name)
    model = MODELS.build(network(f'cifar100/{name}'))
    assert sum(value.numel() for value in model.parameters()) == VITS[name]
    model.init_weights()
    logits = model(torch.randn(2, 3, 32, 32))
    assert logits.shape == (2, 100)
    # Equal logits have no z-score, and LSKD's gradient on them would be huge.
    assert (logits.std(dim=1) > 1e-3).all()
    logits.sum().backward()
    assert all(value.grad is not None for value in model.parameters() if value.requires_grad)


def test_pvt_tiny_is_as_large_as_published():
    needs_extras('pvt_tiny')
    config = network('cifar100/pvt_tiny')
    config.head.num_classes = 1000
    count = sum(value.numel() for value in MODELS.build(config).parameters())
    # 13.2 million in the paper's table, with a class token.
    assert count == pytest.approx(13.2e6, rel=0.005)


@pytest.mark.parametrize(('teacher', 'student'), PAIRS)
def test_pair(tmp_path, teacher, student):
    bases = [str(FOLDER / 'cifar100' / f'{name}.py') for name in (teacher, student)]
    (tmp_path / 'pair.py').write_text(
        f'_base_ = {bases}\nteacher = _base_.{teacher}\nstudent = _base_.{student}\n'
    )
    pair = Config.fromfile(tmp_path / 'pair.py')
    assert pair.teacher == network(f'cifar100/{teacher}')
    assert pair.student == network(f'cifar100/{student}')


@pytest.mark.parametrize(
    ('name', 'deviation', 'zero_bias'),
    [
        # torch draws a linear layer from a uniform of width 2 / sqrt(in_channels).
        ('resnet8x4', 256**-0.5 / 3**0.5, False),
        ('wrn_16_2', 128**-0.5 / 3**0.5, True),
        ('vgg8', 0.01, True),
        ('mobilenet_v2', 0.01, True),
        ('shufflenet_v2', 1024**-0.5 / 3**0.5, False),
    ],
)
def test_classifier_initialisation(name, deviation, zero_bias):
    torch.manual_seed(0)
    model = MODELS.build(network(f'cifar100/{name}'))
    model.init_weights()
    assert model.head.fc.weight.std().item() == pytest.approx(deviation, rel=0.05)
    assert bool((model.head.fc.bias == 0).all()) is zero_bias

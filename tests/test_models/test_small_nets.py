from __future__ import annotations

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from ..conftest import REPOSITORY


@pytest.mark.parametrize(
    ('name', 'parameters'),
    [
        # Convolutions 8 x 26 and 16 x 201, linear layers 84 x 401 and 119 x 85.
        ('lenet', 208 + 3216 + 33684 + 10115),
        # Linear layers 64 x 1025 and 119 x 65.
        ('mlp', 65600 + 7735),
        # Convolutions of 25, 16 x 9 and 32 x 9 inputs, their batch norms, linear layers.
        ('convnet', 400 + 4608 + 18432 + 2 * 112 + 512 * 1025 + 119 * 513),
    ],
)
def test_size_is_what_the_config_says(name, parameters):
    path = REPOSITORY / f'configs/_base_/models/glyphs/{name}.py'
    config = Config.fromfile(path)[name]
    config.head.num_classes = 119
    model = MODELS.build(config)
    assert sum(each.numel() for each in model.parameters()) == parameters
    assert f'{parameters:,} parameters' in path.read_text()
    assert model(torch.rand(2, 1, 32, 32)).shape == (2, 119)


@pytest.mark.parametrize('kind', ['LeNet', 'MLP', 'ConvNet'])
def test_options_and_size_of_the_input(kind):
    options = dict(MLP=dict(hidden=(20, 7)), LeNet=dict(channels=(3, 5), hidden=7))
    backbone = MODELS.build(
        dict(
            type=f'mmkendall.{kind}',
            **options.get(kind, dict(channels=(4, 6), hidden=7, drop_rate=0.0)),
        )
    )
    (features,) = backbone(torch.rand(3, 1, 32, 32))
    assert features.shape == (3, 7)
    assert (features >= 0).all()
    assert features.std() > 0
    with pytest.raises(ValueError, match=rf'{kind} needs images of shape \(1, 32, 32\), got'):
        backbone(torch.rand(3, 3, 32, 32))


def test_lenet_is_its_definition():
    backbone = MODELS.build(dict(type='mmkendall.LeNet'))
    first, second, linear = (backbone.layers[index] for index in (0, 2, 5))
    x = torch.rand(2, 1, 32, 32)
    maps = torch.nn.functional.conv2d(x, first.weight, first.bias, stride=2).clamp(min=0)
    assert maps.shape == (2, 8, 14, 14)
    maps = torch.nn.functional.conv2d(maps, second.weight, second.bias, stride=2).clamp(min=0)
    assert maps.shape == (2, 16, 5, 5)
    expected = (maps.flatten(1) @ linear.weight.T + linear.bias).clamp(min=0)
    torch.testing.assert_close(backbone(x)[0], expected)

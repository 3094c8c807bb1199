"""The resize before a backbone, and the class token behind one."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS

from mmkendall.models.necks import FirstToken

BACKBONE = dict(type='mmkendall.CifarResNet', depth=8)


def test_resized_input_is_the_backbone_on_resized_images():
    backbone = MODELS.build(BACKBONE).eval()
    resized = MODELS.build(dict(type='mmkendall.ResizedInput', size=48, backbone=BACKBONE)).eval()
    resized.backbone.load_state_dict(backbone.state_dict())
    images = torch.randn(2, 3, 32, 32)
    (expected,) = backbone(F.interpolate(images, (48, 48), mode='bicubic'))
    (found,) = resized(images)
    assert found.shape[-2:] == (12, 12)
    assert torch.equal(found, expected)


def test_resized_input_passes_initialisation_on():
    resized = MODELS.build(dict(type='mmkendall.ResizedInput', size=16, backbone=BACKBONE))
    before = {name: value.clone() for name, value in resized.state_dict().items()}
    resized.init_weights()
    weights = [name for name in before if name.endswith('conv1.weight')]
    assert weights
    assert all((resized.state_dict()[name] != before[name]).any() for name in weights)


def test_resized_input_refuses_no_size():
    with pytest.raises(ValueError, match='size must be 1 at least, got 0'):
        MODELS.build(dict(type='mmkendall.ResizedInput', size=0, backbone=BACKBONE))


def test_first_token():
    tokens = torch.randn(2, 5, 7)
    (first,) = FirstToken()((tokens,))
    assert torch.equal(first, tokens[:, 0])

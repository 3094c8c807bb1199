"""All that mmrazor knows by a name of mmcls is there, also what mmpretrain calls otherwise."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine import registry
from mmengine.config import Config
from mmengine.hub import get_config

# Found, not imported: mmrazor's own import of mmcls is what is tested.
MMRAZOR = Path(find_spec('mmrazor').origin).parent
CONFIGS = [path.read_text() for path in sorted((MMRAZOR / '.mim' / 'configs').rglob('*.py'))]


def test_every_name_that_mmrazor_imports():
    missing, found = [], 0
    for path in MMRAZOR.rglob('*.py'):
        if '.mim' in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or '').split('.')[0] == 'mmcls':
                module = import_module(node.module)
                missing += [n.name for n in node.names if not hasattr(module, n.name)]
                found += len(node.names)
    assert not missing
    assert found > 20


def test_every_config_that_mmrazor_inherits():
    paths = {path for text in CONFIGS for path in re.findall(r'mmcls::[\w./-]+', text)}
    assert len(paths) > 10
    for path in sorted(paths):
        assert Config._get_cfg_path(path, '')[1] == 'mmcls', path


def test_every_type_that_mmrazor_names():
    names = {name for text in CONFIGS for name in re.findall(r"type='(mmcls\.[A-Z]\w+)'", text)}
    assert len(names) > 30
    kinds = (
        'MODELS', 'TRANSFORMS', 'DATASETS', 'DATA_SAMPLERS', 'METRICS', 'OPTIMIZERS',
        'PARAM_SCHEDULERS',
    )  # fmt: skip
    for name in sorted(names):
        assert any(getattr(registry, kind).get(name) for kind in kinds), name


def test_a_renamed_transform_packs_a_renamed_sample():
    from mmcls.structures import ClsDataSample
    from mmcls.structures.cls_data_sample import ClsDataSample as FromItsFile

    for entry in (
        dict(type='mmcls.PackClsInputs'),
        dict(type='PackClsInputs', _scope_='mmcls'),
        dict(type='mmrazor.PackCRDClsInputs'),
    ):
        transform = registry.TRANSFORMS.build(entry)
        packed = transform(dict(img=np.zeros((4, 5, 3), np.uint8), gt_label=3))
        assert packed['inputs'].shape == (3, 4, 5)
        assert type(packed['data_samples']) is ClsDataSample is FromItsFile
        assert packed['data_samples'].gt_label == torch.tensor([3])
    assert registry.TRANSFORMS.get('mmrazor.PackClsInputs') is None


@pytest.mark.parametrize(
    ('old', 'new'),
    [
        ('deit/deit-base_pt-16xb64_in1k.py', 'deit/deit-base_16xb64_in1k.py'),
        (
            'vision_transformer/vit-base-p16_ft-64xb64_in1k-384.py',
            'vision_transformer/vit-base-p16_64xb64_in1k-384px.py',
        ),
        (
            'vision_transformer/vit-large-p32_pt-64xb64_in1k-224.py',
            'vision_transformer/vit-large-p32_64xb64_in1k.py',
        ),
        ('resnet/resnet18_8xb32_in1k.py', 'resnet/resnet18_8xb32_in1k.py'),
    ],
)
def test_renamed_configs(old, new):
    assert get_config(f'mmcls::{old}').model == get_config(f'mmpretrain::{new}').model
    if old != new:
        with pytest.raises(FileNotFoundError):
            get_config(f'mmpretrain::{old}')

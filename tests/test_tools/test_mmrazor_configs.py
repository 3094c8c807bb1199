"""docs/mmrazor_configs.md says what is true of mmrazor's distillation configs."""

from __future__ import annotations

from importlib.util import find_spec, module_from_spec, spec_from_file_location

import pytest
from mmengine.config import Config

from mmkendall.engine.distill_config import ConfigError, add_rank_loss, load_config

from ..conftest import REPOSITORY

SPEC = spec_from_file_location(
    'mmrazor_configs', REPOSITORY / 'tools/analysis_tools/mmrazor_configs.py'
)
TOOL = module_from_spec(SPEC)
SPEC.loader.exec_module(TOOL)
TABLE = TOOL.read_table((REPOSITORY / 'docs/mmrazor_configs.md').read_text())
# Its transform packs what mmpretrain renamed; kd, dkd, dist and wsld train in another test.
QUICK = ('distill/mmcls/crd/crd_neck_r50_r18_8xb16_cifar10.py',)


def needs_operators(name: str) -> bool:
    return name.split('/')[1] in TOOL.OPERATORS


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp('images')
    TOOL.write_images(folder)
    return folder


def test_the_table_has_every_config():
    assert list(TABLE) == TOOL.config_names()
    assert len(TABLE) > 30


@pytest.mark.parametrize('name', [name for name in TABLE if not needs_operators(name)])
def test_loads_and_takes_the_ranking_loss(name):
    check_row(name)


def check_row(name: str) -> None:
    """Compares a row of the table with what can be seen without a training."""
    loads = takes = 'no'
    try:
        cfg = load_config(f'mmrazor::{name}')
        loads = 'yes'
        assert isinstance(cfg, Config)
        add_rank_loss(cfg, {'steepness': 10})
        takes = 'yes'
    except (ConfigError, KeyError):
        pass
    assert TABLE[name][:2] == (loads, takes)


@pytest.mark.parametrize(
    'name',
    [
        pytest.param(name, marks=[] if name in QUICK else [pytest.mark.trust])
        for name in TABLE
        if not needs_operators(name)
    ],
)
def test_trains(name, images):
    result = TOOL.try_in_process(name, images)
    assert TABLE[name] == tuple(result[key] for key in ('loads', 'rank', 'trains')), result['says']


@pytest.mark.skipif(find_spec('mmcv._ext') is not None, reason="mmcv's operators are here")
def test_what_needs_operators_is_not_tried(images):
    name = next(name for name in TABLE if needs_operators(name))
    assert TOOL.try_in_process(name, images)['trains'] == 'not tried'

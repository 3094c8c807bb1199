"""docs/mmrazor_configs.md says what is true of mmrazor's detection and segmentation."""

from __future__ import annotations

import pytest

from ..conftest import needs_mmdet
from ..test_tools.test_mmrazor_configs import TABLE, TOOL, check_row

needs_mmdet()
NAMES = [name for name in TABLE if name.split('/')[1] in ('mmdet', 'mmseg')]


@pytest.mark.parametrize('name', NAMES)
def test_loads_and_takes_the_ranking_loss(name):
    check_row(name)


@pytest.mark.parametrize('name', [name for name in NAMES if '/mmseg/' in name])
def test_trains(name, tmp_path):
    """The one that takes a ranking loss; the others take minutes."""
    TOOL.write_cityscapes(tmp_path / 'data' / 'cityscapes')
    result = TOOL.try_in_process(name, tmp_path)
    assert TABLE[name] == tuple(result[key] for key in ('loads', 'rank', 'trains')), result['says']


def test_another_package_is_not_tried(tmp_path):
    (name,) = (name for name in TABLE if '/mmdet3d/' in name)
    assert set(TABLE[name]) == {'not tried'}
    assert TOOL.try_in_process(name, tmp_path)['says'] == 'mmdet3d is not installed'

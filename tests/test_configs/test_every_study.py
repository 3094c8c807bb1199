"""Every study plans itself, which builds its data and the losses of each of its arms."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmkendall.studies.plan import Plan
from mmkendall.studies.study import read_study

from ..conftest import REPOSITORY

STUDIES = sorted((REPOSITORY / 'configs' / 'studies').glob('*.py'))


@pytest.mark.parametrize('path', STUDIES, ids=lambda path: path.stem)
def test_it_plans_itself(path, in_memory, tmp_path, monkeypatch):
    if 'fashion' in path.name and not Path('/usr/share/datasets/fashion-mnist').is_dir():
        pytest.skip('Fashion-MNIST is missing: apt-get install dataset-fashion-mnist')
    (tmp_path / 'data').mkdir()
    for name, folder in (
        ('letters', 'letters'),
        ('letters_split1', 'letters'),
        ('kanji', 'kanji'),
    ):
        (tmp_path / 'data' / name).symlink_to(Path(in_memory) / folder)
    monkeypatch.chdir(tmp_path)
    study = read_study(str(path))
    plan = Plan(study, tmp_path / 'work')
    tuning = plan.tuning()
    for case in study.cases.values():
        for arm in study.arms_of(case):
            own = [each for each in tuning if (each.case, each.arm) == (case.name, arm.name)]
            points = len(arm.points())
            # One point alone leaves nothing to choose.
            assert len(own) == (points * len(study.tune_seeds) if points > 1 else 0)

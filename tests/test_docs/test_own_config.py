"""The tutorial's commands and configs, as they stand on its page, on four images of each class."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from mmkendall.engine.distill_config import load_config

from ..conftest import REPOSITORY, call_tool
from .pages import commands, write_files

PAGE = 'own_config.md'
NAMES = ['my_config.py', 'resnet34_photos.py', 'kd_photos.py', 'from_mmrazor.py']
FEW = ('--per-class', '4')


def stop_in_the_third_epoch(*command: str) -> subprocess.CompletedProcess:
    """Runs a tool and presses Ctrl-C once the second epoch is validated."""
    script = REPOSITORY / 'tools' / f'{command[0]}.py'
    process = subprocess.Popen(
        [sys.executable, str(script), *command[1:]],
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONUNBUFFERED': '1'},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    output = ''
    for line in process.stdout:
        output += line
        if 'Epoch(val) [2]' in line:
            process.send_signal(signal.SIGINT)
    return subprocess.CompletedProcess(command, process.wait(), output)


@pytest.mark.tutorial
def test_the_page_from_the_first_command_to_the_last(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert write_files(PAGE, tmp_path) == NAMES
    ran = []
    for program, tool, *options in commands(PAGE):
        assert program == 'mmkendall'
        if tool == 'dataset_converters/digits_folder':
            options += FEW
        if (tool, options) == ('train', ['my_config.py']):
            done = stop_in_the_third_epoch(tool, *options)
            assert done.returncode == 130, done.stdout[-3000:]
            said = done.stdout
            assert 'epoch_2.pth: go on with' in said
            assert '--resume' in said.splitlines()[-1]
        else:
            assert call_tool(monkeypatch, f'{tool}.py', *options) == 0, capfd.readouterr().err[
                -3000:
            ]
            said = capfd.readouterr().out
        ran.append(tool.rpartition('/')[2])
        if '--resume' in options:
            assert 'resumed epoch: 2' in said
        if tool == 'test':
            assert 'accuracy/top1' in said
    assert ran == [
        'digits_folder', 'train', 'check_config', 'train', 'train', 'export_student', 'test',
        'check_config',
    ]  # fmt: skip
    (log,) = sorted((tmp_path / 'work_dirs/my_config').glob('*/vis_data/scalars.json'))[-1:]
    validated = [line for line in map(json.loads, log.read_text().splitlines()) if 'step' in line]
    assert validated[-1]['teacher.accuracy/top1'] > 0


def test_a_folder_of_three_classes(tmp_path, monkeypatch):
    """What the page says a config of one's own names is all that has to change."""
    monkeypatch.chdir(tmp_path)
    write_files(PAGE, tmp_path)
    random = np.random.default_rng(0)
    for part, name, number in itertools.product(
        ('train', 'val'), ('oak', 'ash', 'elm'), range(11)
    ):
        path = tmp_path / 'data/photos' / part / name / f'{number}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), random.integers(0, 255, (70, 90, 3), dtype=np.uint8))
    options = ['--cfg-options', 'model.teacher_ckpt=None', 'allow_random_teacher=True']
    assert call_tool(monkeypatch, 'misc/check_config.py', 'kd_photos.py', *options) == 0
    teacher, student = (load_config(name) for name in ('resnet34_photos.py', 'kd_photos.py'))
    assert teacher.model == student.model.teacher
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        assert teacher[loader] == student[loader]


def test_it_is_mmrazors_config_on_other_data():
    """The same algorithm, recorders, loss, weight and mappings, as the file says."""
    own = Config.fromfile(
        str(REPOSITORY / 'configs/own_data/kd_logits_resnet34_resnet18_1xb32_folder.py')
    )
    theirs = load_config('mmrazor::distill/mmcls/kd/kd_logits_resnet34_resnet18_8xb32_in1k.py')
    assert own.model.type.rpartition('.')[2] == theirs.model.type
    for key in (
        'student_recorders',
        'teacher_recorders',
        'distill_losses',
        'loss_forward_mappings',
    ):
        assert own.model.distiller[key] == theirs.model.distiller[key]
    assert own.model.architecture.backbone.depth == 18
    assert own.model.teacher.backbone.depth == 34


@pytest.mark.parametrize('bad', [['data'], ['new', '--per-class', '0']])
def test_the_folder_is_not_written_over(bad, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data/photo.png').touch()
    with pytest.raises(SystemExit) as ended:
        call_tool(monkeypatch, 'dataset_converters/digits_folder.py', *bad)
    assert ended.value.code == 2
    assert 'error' in capsys.readouterr().err

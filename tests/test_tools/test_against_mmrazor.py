"""mmrazor's figures beside ours, and two real tests on small data in ImageNet's format."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ..conftest import REPOSITORY, call_tool, imagenet_options, run_tool

TOOL = 'analysis_tools/against_mmrazor.py'
BASE = 'mmrazor::distill/mmcls/kd/kd_logits_resnet34_resnet18_8xb32_in1k.py'
OURS = 'configs/imagenet/kd-rank_logits_resnet34_resnet18_8xb32_in1k.py'
RANDOM = ['model.teacher_ckpt=None', 'allow_random_teacher=True', 'model.teacher.pretrained=False']


@pytest.mark.long
def test_the_table():
    said = run_tool('benchmark.py', '--against', 'mmrazor', cwd=REPOSITORY).stdout
    lines = [re.split(r' {2,}', line) for line in said.splitlines()]
    for row in (
        [
            'ResNet-34 73.62',
            'ResNet-18 69.90',
            '71.81',
            'not run',
            'not run',
            'kd_logits_resnet34_resnet18_8xb32_in1k',
        ],
        [
            'ResNet-34 73.62',
            'ResNet-18 69.90',
            '71.368',
            'not run',
            'not run',
            'dkd_resnet34_resnet18_8xb32_in1k',
        ],
        [
            'ResNet-50 76.55',
            'MobileNetV2 71.86',
            '73.56',
            'not run',
            'not run',
            'kd_logits_resnet50_mobilenet-v2_8xb32_in1k',
        ],
    ):
        assert row in lines
    url = r"'?https://download\.openmmlab\.com/mmrazor/v1/kd/kl_r18_w3/\S+\.pth"
    assert re.search(rf'python tools/test\.py {re.escape(BASE)} {url}', said)


@pytest.mark.long
def test_weights_and_a_checkpoint_on_the_same_images(
    imagenet_folder, tmp_path, monkeypatch, capfd
):
    """Both were trained here: mmrazor's own cannot be fetched."""
    options = [*imagenet_options(imagenet_folder), *RANDOM]
    for config, name, seed in ((BASE, 'theirs', 0), (REPOSITORY / OURS, 'ours', 1)):
        more = ('train_cfg.max_epochs=1', f'randomness.seed={seed}')
        arguments = ('train.py', config, '--work-dir', tmp_path / name)
        assert call_tool(monkeypatch, *arguments, '--cfg-options', *options, *more) == 0
    theirs, ours = (tmp_path / name / 'epoch_1.pth' for name in ('theirs', 'ours'))
    monkeypatch.chdir(tmp_path)
    capfd.readouterr()
    arguments = (TOOL, OURS, ours, '--weights', theirs, '--cfg-options', *options)
    assert call_tool(monkeypatch, *arguments) == 0
    said = capfd.readouterr().out.splitlines()[-2:]
    found = [
        re.fullmatch(r"mmrazor's weights  ([\d.]+), reported 71\.81  (\S+)", said[0]),
        re.fullmatch(r'your checkpoint    ([\d.]+), [+-][\d.]+  (\S+)', said[1]),
    ]
    assert [Path(each[2]) for each in found] == [theirs, ours]
    for each, config, checkpoint in zip(
        found, (BASE, REPOSITORY / OURS), (theirs, ours), strict=True
    ):
        arguments = ('test.py', config, checkpoint, '--out', 'metrics.json')
        assert call_tool(monkeypatch, *arguments, '--cfg-options', *options) == 0
        measured = json.loads(Path('metrics.json').read_text())['accuracy/top1']
        assert float(each[1]) == pytest.approx(measured, abs=0.005)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('configs/digits/none.py',), "config 'configs/digits/none.py' is neither one of mmrazor"),
        ((BASE, 'gone.pth'), "checkpoint 'gone.pth' does not exist"),
        ((BASE, '--weights', 'gone.pth'), "checkpoint 'gone.pth' does not exist"),
    ],
)
def test_refuses(arguments, message, monkeypatch, capsys):
    assert call_tool(monkeypatch, TOOL, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count('\n') == 1


@pytest.mark.long
def test_a_test_that_fails_is_said(tmp_path, monkeypatch, capfd):
    """A file that is no checkpoint: tools/test.py says why, and the command what to do."""
    (tmp_path / 'torn.pth').write_bytes(b'PK no')
    assert call_tool(monkeypatch, TOOL, BASE, '--weights', tmp_path / 'torn.pth',
                     '--cfg-options', *RANDOM) == 2  # fmt: skip
    error = capfd.readouterr().err
    assert 'ended with status 2, for the reason above' in error


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ((), 'give either a study or --against mmrazor'),
        (('--against', 'torchdistill'), "--against knows mmrazor alone, got 'torchdistill'"),
    ],
)
def test_the_benchmark_refuses(arguments, message, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        call_tool(monkeypatch, 'benchmark.py', *arguments)
    assert message in capsys.readouterr().err

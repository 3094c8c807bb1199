"""Figures of work directories that tools/train.py wrote: finished, resumed, stopped, changed."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import mmengine
import pytest
import torch

from mmkendall import __version__
from mmkendall.engine.errors import ConfigError
from mmkendall.studies.finished_run import read_run
from mmkendall.studies.settings import fingerprint
from mmkendall.studies.zoo import find_config, load_experiment, read_zoo

from ..conftest import REPOSITORY, call_tool
from .conftest import STUDENT

TOOL = 'analysis_tools/import_run.py'
CONFIG = 'configs/digits/resnet18-w4_1xb64_digits.py'
PAIR = 'configs/digits/kd_logits_resnet18-w16_resnet18-w4_1xb64_digits.py'
OTHER = """
_base_ = ['{base}']
optim_wrapper = dict(optimizer=dict(lr=0.1))
# The last epoch is ruined, so that it is not the best.
param_scheduler = dict(_delete_=True, type='MultiStepLR', milestones=[3], gamma=30)
train_dataloader = dict(dataset=dict(indices=640))
train_cfg = dict(max_epochs=4)
"""


@pytest.fixture(scope='module')
def stopped(tmp_path_factory) -> Path:
    """A work directory whose training got SIGTERM after its third epoch."""
    folder = tmp_path_factory.mktemp('stopped') / 'run'
    command = [sys.executable, str(REPOSITORY / 'tools' / 'train.py'), str(STUDENT)]
    command += ['--work-dir', str(folder), '--cfg-options', 'randomness.seed=7']
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    limit = time.monotonic() + 300
    while not (folder / 'epoch_3.pth').exists():
        assert process.poll() is None, 'it ended before it was stopped'
        assert time.monotonic() < limit
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    return folder


@pytest.fixture(scope='module')
def resumed(stopped, tmp_path_factory) -> Path:
    """The same directory, resumed to its end."""
    folder = tmp_path_factory.mktemp('resumed') / 'run'
    shutil.copytree(stopped, folder)
    with pytest.MonkeyPatch.context() as patch:
        options = ('--resume', '--cfg-options', 'randomness.seed=7')
        assert call_tool(patch, 'train.py', STUDENT, '--work-dir', folder, *options) == 0
    return folder


@pytest.fixture(scope='module')
def changed(tmp_path_factory) -> Path:
    """A training of a file of one's own, with other learning rates and fewer images."""
    folder = tmp_path_factory.mktemp('changed')
    (folder / 'mine.py').write_text(OTHER.format(base=STUDENT))
    with pytest.MonkeyPatch.context() as patch:
        # Twice: the first one is not resumed and does not count.
        for epochs in (1, 4):
            options = ('--cfg-options', 'randomness.seed=3', f'train_cfg.max_epochs={epochs}')
            arguments = ('train.py', folder / 'mine.py', '--work-dir', folder / 'run', *options)
            assert call_tool(patch, *arguments) == 0
            time.sleep(1.1)  # mmengine names the folders by the second.
    return folder / 'run'


ITERATIONS = """
_base_ = ['{base}']
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=4, val_interval=2)
train_dataloader = dict(sampler=dict(type='InfiniteSampler'))
param_scheduler = None
randomness = dict(seed=0)
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=2),
    logger=dict(interval=2, log_metric_by_epoch={by_epoch}))
"""


@pytest.fixture
def tool(monkeypatch, tmp_path, capsys):
    """Runs the command; returns its status, the files that it wrote, and what it printed."""

    def run(*arguments) -> tuple[int, list[Path], str]:
        status = call_tool(monkeypatch, TOOL, *arguments, '--out', tmp_path / 'out')
        files = sorted((tmp_path / 'out').glob('*')) if (tmp_path / 'out').exists() else []
        said = capsys.readouterr()
        assert (status == 2) == bool(said.err)
        assert said.err.count('\n') <= 1
        return status, files, said.err or said.out

    return run


def validations(folder: Path) -> list[dict]:
    """The lines of all validations, those of the first session first."""
    texts = [path.read_text() for path in sorted(folder.glob('*/vis_data/scalars.json'))]
    lines = [json.loads(line) for text in texts for line in text.splitlines()]
    return [line for line in lines if 'accuracy/top1' in line]


def test_a_resumed_run(resumed, tool):
    status, (path,), said = tool(resumed)
    assert status == 0
    result = json.loads(path.read_text())
    last = validations(resumed)[-1]
    assert last['step'] == result['end'] == 12
    assert result['metrics'] == {'accuracy/top1': last['accuracy/top1']}
    by_epoch = {line['step']: line['accuracy/top1'] for line in validations(resumed)}
    assert result['curve'] == [[epoch, by_epoch[epoch]] for epoch in range(1, 13)]
    assert f'accuracy/top1 {last["accuracy/top1"]:g} of epoch 12, the last' in said
    sessions = sorted(each.name for each in resumed.iterdir() if each.is_dir())
    assert result['sessions'] == sessions
    assert len(sessions) == 2
    assert path.name == f'resnet18-w4_1xb64_digits_seed7_{sessions[0]}.json'
    assert result['config'] == CONFIG
    assert result['settings'] == fingerprint(load_experiment(CONFIG, REPOSITORY))
    assert result['changed'] == []
    assert (result['seed'], result['gpus'], result['batch_size']) == (7, 1, 64)
    assert result['teacher'] is None
    assert 1 < result['seconds'] < 600
    versions = result['versions']
    assert versions['torch'] == torch.__version__
    assert versions['mmengine'] == mmengine.__version__
    assert versions['mmkendall'] == __version__
    assert versions['python'] == sys.version.split()[0]
    content = (resumed / 'epoch_12.pth').read_bytes()
    assert result['checkpoint'] == {
        'name': 'epoch_12.pth',
        'sha256': hashlib.sha256(content).hexdigest()[:8],
    }
    before = path.read_bytes()
    assert tool(resumed)[0] == 0
    assert path.read_bytes() == before


def test_a_run_that_has_not_ended(stopped, tool):
    status, files, said = tool(stopped)
    assert (status, files) == (2, [])
    assert re.search(
        r'ends with (epoch|iter)_\d+\.pth, and the training with epoch_12\.pth: it has not ended',
        said,
    )


def test_a_changed_run(changed, tool):
    status, files, said = tool(changed, '--config', CONFIG)
    assert (status, files) == (2, [])
    for words in (
        f'is no training of {CONFIG}: ',
        'optim_wrapper.optimizer.lr is 0.1 in place of 0.05',
        'train_dataloader.dataset.indices is 640, and the config has none',
        "param_scheduler is {'gamma': 30, 'milestones': [3], 'type': 'MultiStepLR'} in place of {",
        'train_cfg.max_epochs is 4 in place of 12',
        'an epoch has 10 iterations of 64 images, and the 1297 of Digits would take 21',
        '--changed stores it as a changed run',
    ):
        assert words in said

    status, (path,), said = tool(changed, '--config', CONFIG, '--changed')
    assert status == 0
    result = json.loads(path.read_text())
    assert path.name.startswith('resnet18-w4_1xb64_digits-changed_seed3_')
    assert 'optim_wrapper.optimizer.lr is 0.1 in place of 0.05' in result['changed']
    # Only the second training in this directory, and of it the last epoch, not the best.
    assert len(list(changed.glob('*/vis_data'))) == 2
    assert len(result['sessions']) == 1
    values = [line['accuracy/top1'] for line in validations(changed)][-4:]
    assert result['curve'] == [[epoch, value] for epoch, value in enumerate(values, 1)]
    assert max(values) > values[-1]
    assert result['metrics']['accuracy/top1'] == values[-1]
    assert f'; the best was {max(values):g} of epoch' in said


@pytest.mark.parametrize('by_epoch', [False, True])
def test_a_training_that_counts_iterations(by_epoch, tool, tmp_path, monkeypatch, capsys):
    (tmp_path / 'mine.py').write_text(ITERATIONS.format(base=STUDENT, by_epoch=by_epoch))
    arguments = ('train.py', tmp_path / 'mine.py', '--work-dir', tmp_path / 'run')
    assert call_tool(monkeypatch, *arguments) == 0
    capsys.readouterr()
    status, files, said = tool(tmp_path / 'run', '--config', CONFIG, '--changed')
    if by_epoch:
        assert (status, files) == (2, [])
        assert 'the last is of iter 0 (iterations are logged with default_hooks' in said
        return
    result = json.loads(files[0].read_text())
    assert (result['unit'], result['end']) == ('iteration', 4)
    values = [line['accuracy/top1'] for line in validations(tmp_path / 'run')]
    assert result['curve'] == [[2, values[0]], [4, values[1]]]
    assert result['checkpoint']['name'] == 'iter_4.pth'


def test_without_a_name_it_is_the_config_that_is_most_like_it(changed, resumed):
    digits = [
        model['Config'] for model in read_zoo(REPOSITORY)[1] if '/digits/' in model['Config']
    ]
    config, differ = find_config(read_run(changed), digits, REPOSITORY)
    assert config == CONFIG
    assert 'optim_wrapper.optimizer.lr is 0.1 in place of 0.05' in differ
    run = read_run(resumed)._replace(name='mine')
    assert find_config(run, digits, REPOSITORY) == (CONFIG, [])


def test_the_teacher_is_another_one(finished_run, tool):
    """And all else in which that run is not one of the config."""
    status, _, said = tool(finished_run / 'run', '--config', PAIR)
    assert status == 2
    assert (
        "model.teacher_ckpt is 'teacher/epoch_1.pth' in place of "
        "'resnet18-w16_1xb64_digits/epoch_12.pth'"
    ) in said
    status, (path,), _ = tool(finished_run / 'run', '--config', PAIR, '--changed')
    assert status == 0
    assert json.loads(path.read_text())['teacher'] == 'teacher/epoch_1.pth'


def test_the_number_of_gpus_counts(resumed, monkeypatch):
    """The config of a test stands for one of eight GPUs."""
    from mmkendall.studies import zoo

    plain = load_experiment(CONFIG, REPOSITORY)
    monkeypatch.setattr(zoo, 'load_experiment', lambda config, root: plain)
    differ = zoo.run_differences(read_run(resumed), 'resnet18-w4_8xb64_digits.py', REPOSITORY)
    assert differ == ['the number of GPUs is 1 in place of 8']


def without_first_session(run: Path) -> None:
    shutil.rmtree(sorted(each for each in run.iterdir() if each.is_dir())[0])


def torn_checkpoint(run: Path) -> None:
    path = run / 'epoch_12.pth'
    path.write_bytes(path.read_bytes()[:5000])


def no_environment(run: Path) -> None:
    for path in run.glob('*/*.log'):
        path.write_text(path.read_text().replace('System environment', ''))


def not_validated(run: Path) -> None:
    for path in run.glob('*/vis_data/scalars.json'):
        lines = path.read_text().splitlines(keepends=True)
        path.write_text(''.join(each for each in lines if json.loads(each)['step'] != 12))


def program(run: Path) -> None:
    for path in run.glob('*/vis_data/config.py'):
        path.write_text(path.read_text() + "\nimport os\nos.mkdir('ran')\n")


@pytest.mark.parametrize(
    ('harm', 'message'),
    [
        (without_first_session, r'begins at epoch \d: the sessions before are in another folder'),
        (torn_checkpoint, 'epoch_12.pth, named by last_checkpoint: it is cut off'),
        (no_environment, 'does not say Python, PyTorch, MMEngine, GPU number'),
        (not_validated, 'has no validation of epoch 12, the last one: the last is of epoch 11'),
        (program, 'config.py is no config as mmengine dumps it'),
        (lambda run: (run / 'last_checkpoint').unlink(), 'has no last_checkpoint'),
        (lambda run: (run / 'epoch_12.pth').unlink(), 'there is no such file'),
        (lambda run: shutil.copy(run / 'epoch_11.pth', run / 'epoch_12.pth'), 'says epoch 11'),
        (shutil.rmtree, 'there is no folder'),
    ],
)
def test_refuses(harm, message, resumed, tool, tmp_path):
    run = tmp_path / 'run'
    shutil.copytree(resumed, run)
    harm(run)
    status, files, said = tool(run)
    assert (status, files) == (2, [])
    assert re.search(message, said)


def test_refuses_a_folder_and_a_config_that_are_none(tool, tmp_path, resumed):
    assert 'has no training of mmengine' in tool(tmp_path)[2]
    status, _, said = tool(resumed, '--config', 'configs/none.py')
    assert status == 2
    assert '--config configs/none.py is in no metafile' in said


def test_what_mmengine_logs_of_gpus(tmp_path, monkeypatch):
    """mmengine's own line, though of cards that this test only names."""
    from ..short_runs import STUDENT as NAME
    from ..short_runs import short_run

    options = {'log_level': 'INFO', 'default_hooks.logger.interval': 1}
    module = sys.modules['mmengine.utils.dl_utils.collect_env']
    monkeypatch.setattr(module, 'is_cuda_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda index=0: 'NVIDIA A100-SXM4-80GB')
    short_run(NAME, tmp_path, **options)
    monkeypatch.undo()
    with pytest.raises(ConfigError, match='has no validation of epoch 1'):
        read_run(tmp_path)
    from mmkendall.studies.finished_run import _sessions, environment

    (session,) = _sessions(tmp_path)
    assert environment(session)['GPU 0,1'] == 'NVIDIA A100-SXM4-80GB'

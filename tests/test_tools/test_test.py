"""tools/test.py: what it predicts, what it refuses, and what the metric reads of its results."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import DumpResults
from mmengine.fileio import dump

from mmkendall.compat.safe_loading import load, load_pickle

from ..conftest import call_tool, run_tool
from .conftest import STUDENT, TEACHER

PARTS = """
_base_ = ['{config}']
part = dict(type='mmkendall.Digits', split='test', pipeline=[dict(type='mmpretrain.PackInputs')])
test_dataloader = dict(batch_size=7, dataset=dict(_delete_=True, type='ConcatDataset', datasets=[
    dict(indices=30, **part), dict(indices=-45, **part)]))
"""
SHORT = ('--cfg-options', 'test_dataloader.dataset.indices=100')


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def teacher(finished_run) -> Path:
    return finished_run / 'teacher' / 'epoch_1.pth'


@pytest.fixture
def tool(monkeypatch):
    def run(*arguments) -> int:
        return call_tool(monkeypatch, 'test.py', *arguments)

    return run


def metrics() -> dict:
    return json.loads(Path('metrics.json').read_text())


def parts_config(config: Path, name: str) -> str:
    Path(name).write_text(PARTS.format(config=config))
    return name


def measure(name: str) -> tuple:
    return ('--out', 'metrics.json', '--cfg-options', f'test_evaluator.1.teacher_results={name}')


def test_the_teacher_measured_against_itself_in_two_parts(tool, teacher):
    """Both parts number their samples from 0: only their places tell them apart."""
    config = parts_config(TEACHER, 'teacher.py')
    assert tool(config, teacher, '--out', 'teacher.pkl') == 0
    numbers = [result['sample_idx'] for result in load_pickle('teacher.pkl')]
    assert len(numbers) == 75
    assert len(set(numbers)) < 75
    assert tool(config, teacher, *measure('teacher.pkl')) == 0
    assert metrics()['kendall/tau_b'] == pytest.approx(1)
    assert metrics()['kendall/tau_b_low'] == pytest.approx(1)


def test_the_metrics_go_to_a_pickle_where_they_are_asked_for(tool, teacher, capsys):
    assert tool(TEACHER, teacher, '--out', 'metrics.json', *SHORT) == 0
    assert tool(TEACHER, teacher, '--out', 'all.pkl', '--out-item', 'metrics', *SHORT) == 0
    assert load_pickle('all.pkl') == metrics()
    assert tool(TEACHER, teacher, '--out', 'all.json', '--out-item', 'pred', *SHORT) == 2
    assert (
        "predictions can only be written to a .pkl file, got 'all.json'" in capsys.readouterr().err
    )


def test_a_shuffled_loader_is_refused_where_numbers_repeat(tool, teacher, capsys):
    config = parts_config(TEACHER, 'teacher.py')
    assert tool(config, teacher, '--out', 'teacher.pkl') == 0
    options = (*measure('teacher.pkl'), 'test_dataloader.sampler.shuffle=True')
    assert tool(config, teacher, *options) == 2
    assert 'its numbers repeat, so that only an equal order' in capsys.readouterr().err


def test_results_say_how_the_classes_are_called(tool, teacher, finished_run, capsys):
    assert tool(TEACHER, teacher, '--out', 'teacher.pkl', *SHORT) == 0
    results = load_pickle('teacher.pkl')
    assert results[0]['classes'] == tuple('0123456789')
    student = finished_run / 'run' / 'student' / 'epoch_3.pth'
    options = (*measure('teacher.pkl'), SHORT[1])
    assert tool(STUDENT, student, *options) == 0
    tau = metrics()['kendall/tau_b']
    assert -1 < tau < 1

    # As mmengine's DumpResults writes them, without the names.
    plain = [
        {key: value for key, value in result.items() if key != 'classes'} for result in results
    ]
    writer = DumpResults('plain.pkl')
    writer.process({}, plain)
    writer.evaluate(len(plain))
    assert tool(STUDENT, student, *measure('plain.pkl'), SHORT[1]) == 0
    assert metrics()['kendall/tau_b'] == tau

    for result in results:
        result['classes'] = tuple('9876543210')
    dump(results, 'turned.pkl')
    assert tool(STUDENT, student, *measure('turned.pkl'), SHORT[1]) == 2
    assert re.search(
        r"'turned.pkl' and the dataset number the classes differently: '9' is class 0 of the "
        r'first and class 9 of the second',
        capsys.readouterr().err,
    )


def test_results_of_other_images_are_refused(tool, teacher, capsys):
    """The training set's samples have the same numbers as those of the test set."""
    options = ('--cfg-options', 'test_dataloader.dataset.split=train')
    assert tool(TEACHER, teacher, '--out', 'train.pkl', *options) == 0
    assert tool(TEACHER, teacher, *measure('train.pkl')) == 2
    assert re.search(
        r"'train.pkl' is of other data: gt_label of sample \d+", capsys.readouterr().err
    )


def test_results_that_run_code_are_refused(tool, teacher, capsys):
    class Evil:
        def __reduce__(self):
            return subprocess.call, (['touch', 'ran'],)

    dump([{'sample_idx': 0, 'pred_score': torch.ones(10), 'more': Evil()}], 'evil.pkl')
    assert tool(TEACHER, teacher, *measure('evil.pkl')) == 2
    assert "'evil.pkl' was not read, since it names subprocess.call" in capsys.readouterr().err
    assert not Path('ran').exists()


def test_tta(tool, finished_run):
    """The mean score of each image and its mirror image, of the averages of an EMAHook."""
    config, checkpoint = finished_run / 'config.py', finished_run / 'run' / 'epoch_3.pth'
    options = (*SHORT, 'test_dataloader.batch_size=30')
    assert tool(config, checkpoint, '--out', 'plain.pkl', *options) == 0
    assert tool(config, checkpoint, '--out', 'tta.pkl', '--tta', *options) == 0
    pipeline = [dict(type='RandomFlip', prob=1.0), dict(type='mmpretrain.PackInputs')]
    flipped = f"_base_ = ['{config}']\ntest_dataloader = dict(dataset=dict(pipeline={pipeline}))"
    Path('mirror.py').write_text(flipped)
    assert tool('mirror.py', checkpoint, '--out', 'mirror.pkl', *options) == 0
    results = [load_pickle(f'{name}.pkl') for name in ('plain', 'mirror', 'tta')]
    assert len(results[2]) == 100
    for plain, mirrored, tta in zip(*results, strict=True):
        mean = (plain['pred_score'] + mirrored['pred_score']) / 2
        torch.testing.assert_close(tta['pred_score'], mean)
        assert tta['sample_idx'] == plain['sample_idx']
        assert torch.equal(tta['gt_label'], plain['gt_label'])


def test_tta_of_a_dataset_in_parts_and_its_own_pipeline(tool, teacher, capsys):
    config = parts_config(TEACHER, 'teacher.py')
    assert tool(config, teacher, '--tta', '--out', 'tta.pkl') == 0
    assert len(load_pickle('tta.pkl')) == 75
    options = ('--cfg-options', 'default_scope=mmdet')
    assert tool(config, teacher, '--tta', *options) == 2
    assert '--tta needs tta_model and tta_pipeline in a config of mmdet' in capsys.readouterr().err
    options = ('--cfg-options', 'test_dataloader.dataset.pipeline=[]')
    assert tool(TEACHER, teacher, '--tta', *options) == 2
    assert '--tta found no pipeline' in capsys.readouterr().err


def test_a_checkpoint_that_does_not_fit_is_refused(tool, teacher, finished_run, capsys):
    assert tool(STUDENT, teacher, *SHORT) == 2
    error = capsys.readouterr().err
    assert 'epoch_1.pth' in error
    assert error.count('test.py: error') == 1


def test_a_distillation_under_the_plain_config_is_never_wrong(tool, finished_run, capsys):
    """Its result is that of the student alone, or there is none."""
    run = finished_run / 'run'
    assert tool(STUDENT, run / 'student' / 'epoch_3.pth', '--out', 'metrics.json', *SHORT) == 0
    expected = metrics()['accuracy/top1']
    if tool(STUDENT, run / 'epoch_3.pth', '--out', 'metrics.json', *SHORT) == 0:
        assert metrics()['accuracy/top1'] == expected
    else:
        assert 'It is of a distillation: take the student out' in capsys.readouterr().err


def test_a_plain_student_under_the_distillation_is_never_wrong(tool, finished_run, capsys):
    """Its result is that of the plain config, or there is none."""
    student = finished_run / 'run' / 'student' / 'epoch_3.pth'
    assert tool(STUDENT, student, '--out', 'metrics.json', *SHORT) == 0
    expected = metrics()['accuracy/top1']
    status = tool(finished_run / 'config.py', student, '--out', 'metrics.json', *SHORT)
    if status == 0:
        assert metrics()['accuracy/top1'] == expected
    else:
        assert 'epoch_3.pth' in capsys.readouterr().err


def test_classes_in_another_order_are_refused(tool, teacher, capsys):
    checkpoint = load(teacher)
    checkpoint['meta']['dataset_meta']['classes'] = tuple('9876543210')
    torch.save(checkpoint, 'turned.pth')
    assert tool(TEACHER, 'turned.pth', *SHORT) == 2
    error = capsys.readouterr().err
    assert "checkpoint 'turned.pth' and the test dataset number the classes differently" in error
    checkpoint['meta']['dataset_meta']['classes'] = [f'digit {name}' for name in range(10)]
    torch.save(checkpoint, 'renamed.pth')
    assert tool(TEACHER, 'renamed.pth', *SHORT) == 0
    warning = "name the classes differently, 10 and 10 of them; class 0 is 'digit 0' and '0'"
    captured = capsys.readouterr()
    assert warning in captured.out + captured.err


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('gone.pth', "checkpoint 'gone.pth' does not exist"),
        ('torn.pth', "'torn.pth' can't be read: it is empty, torn"),
    ],
)
def test_unreadable_checkpoints(name, message, tool, capsys):
    Path('torn.pth').write_bytes(b'PK\x03\x04 and no more')
    assert tool(STUDENT, name) == 2
    assert message in capsys.readouterr().err


@pytest.mark.long
def test_what_a_plain_model_was_trained_to_is_measured(tmp_path):
    """Both tools as commands, by the config's name, in a folder of the user's."""
    config = 'mmkendall::digits/resnet18-w4_1xb64_digits.py'
    # After one epoch BatchNorm's statistics still lag, and a student can be at chance.
    options = ['train_cfg.max_epochs=4', 'randomness.seed=0']
    run_tool('train.py', config, '--cfg-options', *options, cwd=tmp_path)
    checkpoint = tmp_path / 'work_dirs' / 'resnet18-w4_1xb64_digits' / 'epoch_4.pth'
    run_tool('test.py', config, checkpoint, '--out', 'metrics.json', cwd=tmp_path)
    assert metrics()['accuracy/top1'] > 10

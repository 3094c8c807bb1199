"""The student is validated every time, its teacher once."""

from __future__ import annotations

import itertools

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner, save_checkpoint
from torch import nn

from ..conftest import REPOSITORY

NUMBER = itertools.count()


def make_runner(work_dir, kind: str = 'mmkendall.LogitDistill', **options) -> Runner:
    """Three short epochs of the digits pair, each with a validation on 100 images."""
    base = REPOSITORY / 'configs/digits/kd_logits_resnet18-w16_resnet18-w4_1xb64_digits.py'
    cfg = Config.fromfile(str(base))
    cfg.model.type = kind
    cfg.model.teacher_ckpt = None
    cfg.train_dataloader.dataset.indices = 64
    cfg.val_dataloader.dataset.indices = 100
    cfg.val_dataloader.batch_size = 50
    cfg.val_evaluator = dict(type='mmpretrain.Accuracy')
    cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = None
    cfg.val_cfg.type = 'mmkendall.DistillValLoop'
    cfg.train_cfg.max_epochs = 3
    cfg.randomness.seed = 0
    cfg.log_level = 'ERROR'
    cfg.work_dir = str(work_dir)
    # mmengine keeps what has one name, for instance message hubs.
    cfg.experiment_name = f'val_loop_{next(NUMBER)}'
    cfg.merge_from_dict(options)
    return Runner.from_cfg(cfg)


def count_teacher_steps(runner: Runner, monkeypatch) -> list[int]:
    """Grows by the teacher's index with every batch that a teacher predicts."""
    calls = []
    step = runner.model.teacher_val_step
    monkeypatch.setattr(
        runner.model,
        'teacher_val_step',
        lambda data, index=0: (calls.append(index), step(data, index))[1],
    )
    return calls


def validate(runner: Runner) -> dict:
    runner.val_loop  # noqa: B018  builds the dataloader and the evaluator
    metrics = {}
    runner.call_hook = lambda name, **arguments: metrics.update(arguments.get('metrics', {}))
    runner.val_loop.run()
    return metrics


def test_metrics_are_mmrazors(tmp_path):
    runners = [
        make_runner(tmp_path),
        make_runner(
            tmp_path,
            'mmrazor.SingleTeacherDistill',
            **{'val_cfg.type': 'mmrazor.SingleTeacherDistillValLoop'},
        ),
    ]
    # Away from the constant prediction of a fresh network.
    nn.init.normal_(runners[0].model.teacher.head.fc.weight)
    nn.init.normal_(runners[0].model.architecture.head.fc.weight)
    runners[1].model.load_state_dict(runners[0].model.state_dict())
    ours, theirs = map(validate, runners)
    assert set(ours) == {'accuracy/top1', 'teacher.accuracy/top1'}
    assert ours == theirs
    assert ours['accuracy/top1'] != ours['teacher.accuracy/top1']


def test_teacher_runs_once_and_is_reported_every_time(tmp_path, monkeypatch):
    runner = make_runner(tmp_path)
    calls = count_teacher_steps(runner, monkeypatch)
    reported = []
    call_hook = runner.call_hook

    def record(name, **arguments):
        if name == 'after_val_epoch':
            reported.append(arguments['metrics'])
        call_hook(name, **arguments)

    monkeypatch.setattr(runner, 'call_hook', record)
    runner.train()
    assert len(reported) == 3
    assert calls == [0, 0]
    assert len({metrics['teacher.accuracy/top1'] for metrics in reported}) == 1

    # Epoch 3's checkpoint was written after the second validation.
    kept = make_runner(tmp_path, resume=True, load_from=str(tmp_path / 'epoch_3.pth'))
    kept.load_or_resume()
    kept_calls = count_teacher_steps(kept, monkeypatch)
    metrics = validate(kept)
    assert kept_calls == []
    assert metrics['teacher.accuracy/top1'] == reported[0]['teacher.accuracy/top1']

    changed = make_runner(tmp_path, resume=True, load_from=str(tmp_path / 'epoch_3.pth'))
    changed.load_or_resume()
    changed.model.teacher.head.fc.bias.data[3] = 100.0
    changed_calls = count_teacher_steps(changed, monkeypatch)
    threes = validate(changed)['teacher.accuracy/top1']
    assert changed_calls == [0, 0]
    labels = [
        sample['gt_label']
        for sample in map(changed.val_dataloader.dataset.get_data_info, range(100))
    ]
    assert threes == pytest.approx(labels.count(3))


def test_several_teachers_are_reported_apart(tmp_path, monkeypatch):
    entry = Config.fromfile(
        str(REPOSITORY / 'configs/digits/resnet18-w16_1xb64_digits.py')
    ).model.to_dict()
    other = tmp_path / 'other.pth'
    runner = make_runner(tmp_path)
    runner.model.teacher.head.fc.bias.data[5] = 100.0
    save_checkpoint({'state_dict': runner.model.teacher.state_dict()}, str(other))
    runner = make_runner(
        tmp_path,
        **{'model.teacher': [dict(model=entry), dict(model=entry, checkpoint=str(other))]},
    )
    calls = count_teacher_steps(runner, monkeypatch)
    metrics = validate(runner)
    assert calls == [0, 0, 1, 1]
    assert set(metrics) == {
        'accuracy/top1', 'teacher0.accuracy/top1', 'teacher1.accuracy/top1',
    }  # fmt: skip
    assert torch.equal(runner.model.teachers[1].head.fc.bias.argmax(), torch.tensor(5))


def test_refuses_other_models(tmp_path):
    runner = make_runner(tmp_path, 'mmrazor.SingleTeacherDistill')
    with pytest.raises(TypeError, match=r'LogitDistill, got SingleTeacherDistill'):
        runner.build_val_loop(runner._val_loop)

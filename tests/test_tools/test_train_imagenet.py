"""Plug and play on mmrazor's own ImageNet configs: untouched files, one loss entry, real tools."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample

from ..conftest import REPOSITORY, call_tool, imagenet_options, run_tool

CONFIGS = sorted((REPOSITORY / 'configs' / 'imagenet').glob('*-rank_*.py'))
# No checkpoint can be fetched here, so the teachers are random.
NO_CHECKPOINT = [
    'model.teacher_ckpt=None',
    'model.teacher.pretrained=False',
    'allow_random_teacher=True',
]


def scalars(work_dir: Path) -> list[dict]:
    """What the last run in a work directory logged, one dict a line."""
    files = sorted(work_dir.glob('*/vis_data/scalars.json'))
    return [json.loads(line) for line in files[-1].read_text().splitlines()]


def test_there_is_one_for_each_of_mmrazors_configs():
    assert [path.name.split('-rank')[0] for path in CONFIGS] == [
        'dist', 'dkd', 'kd', 'kd', 'kd', 'wsld',
    ]  # fmt: skip


@pytest.mark.parametrize('config', CONFIGS, ids=lambda path: path.stem)
def test_trains_and_validates(config, imagenet_folder, tmp_path, monkeypatch):
    options = [*imagenet_options(imagenet_folder), *NO_CHECKPOINT]
    arguments = ('train.py', config, '--work-dir', tmp_path, '--cfg-options', *options)
    assert call_tool(monkeypatch, *arguments) == 0
    records = scalars(tmp_path)
    losses = [record['distill.loss_rank'] for record in records if 'distill.loss_rank' in record]
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    validated = [record for record in records if 'accuracy/top1' in record]
    assert len(validated) == 2
    assert 'teacher.accuracy/top1' in validated[-1]


@pytest.mark.parametrize('config', CONFIGS, ids=lambda path: path.stem)
def test_gradient_reaches_the_student_alone(config):
    cfg = Config.fromfile(str(config))
    cfg.model.teacher_ckpt = None
    cfg.model.teacher.pretrained = False
    model = MODELS.build(cfg.model)
    model.train()
    samples = [DataSample().set_gt_label(label) for label in (1, 5, 9, 700)]
    losses = model(torch.randn(4, 3, 64, 64), samples, mode='loss')
    losses['distill.loss_rank'].backward()
    weights = [p for p in model.architecture.parameters() if p.dim() == 4]
    assert all(p.grad is not None and (p.grad != 0).any() for p in weights)
    assert all(p.grad is None for p in model.teacher.parameters())


@pytest.mark.long
def test_rank_loss_option_on_mmrazors_own_file(imagenet_folder, tmp_path):
    """No config of ours at all; then resumed, and tested with its predictions written."""
    config = 'mmrazor::distill/mmcls/kd/kd_logits_resnet34_resnet18_8xb32_in1k.py'
    options = [
        *imagenet_options(imagenet_folder),
        'model.teacher_ckpt=None',
        'allow_random_teacher=True',
    ]
    done = run_tool(
        'train.py', config, '--rank-loss', 'steepness=10', '--work-dir', tmp_path,
        '--local-rank', '0', '--cfg-options', *options, cwd=tmp_path,
    )  # fmt: skip
    assert (
        "added distill_losses.loss_rank = {'type': 'mmkendall.KendallRankLoss', "
        "'loss_weight': 3, 'steepness': 10}" in done.stdout
    )
    first = [r['distill.loss_rank'] for r in scalars(tmp_path) if 'distill.loss_rank' in r]
    assert first[-1] < first[0]

    options[0] = 'train_cfg.max_epochs=3'
    done = run_tool(
        'train.py', config, '--rank-loss', 'steepness=10', '--work-dir', tmp_path, '--resume',
        '--local_rank', '0', '--auto-scale-lr', '--cfg-options', *options, cwd=tmp_path,
    )  # fmt: skip
    assert 'resumed epoch: 2' in done.stdout
    assert len([r for r in scalars(tmp_path) if 'distill.loss_rank' in r]) == 2

    out = tmp_path / 'predictions.pkl'
    done = run_tool(
        'test.py', config, tmp_path / 'epoch_3.pth', '--work-dir', tmp_path, '--out', out,
        '--cfg-options', *options, cwd=tmp_path,
    )  # fmt: skip
    assert 'accuracy/top1' in done.stdout
    assert [len(prediction['pred_score']) for prediction in load(out)] == [1000] * 8

"""Bad input to the tools ends at once, with a message that says what to do."""

from __future__ import annotations

import json
import re

import pytest

from ..conftest import REPOSITORY, run_tool

KD = str(REPOSITORY / 'configs/digits/kd_logits_resnet18-w16_resnet18-w4_1xb64_digits.py')
RANK = KD.replace('/kd_', '/kd-rank_')
FROM_SCRATCH = 'model.teacher_ckpt=None'
DISTILLER = 'model.distiller'


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['gone.py'], "config 'gone.py' does not exist"),
        (['mmkendall::digits/gone.py'], "config 'mmkendall::digits/gone.py'"),
        ([KD], r"teacher_ckpt 'work_dirs/.*' does not exist"),
        ([KD, '--rank-loss', 'backend=eagr', '--cfg-options', FROM_SCRATCH], "got 'eagr'"),
        ([RANK, '--rank-loss', '--cfg-options', FROM_SCRATCH], "already has an entry 'loss_rank'"),
        ([KD, '--amp', '--cfg-options', FROM_SCRATCH], 'needs an accelerator'),
        (
            [
                KD,
                '--cfg-options',
                FROM_SCRATCH,
                f'{DISTILLER}.distill_losses.rank.type=mmkendall.KendallRankLoss',
            ],
            'Call it loss_rank',
        ),
        (
            [
                RANK,
                '--cfg-options',
                FROM_SCRATCH,
                f'{DISTILLER}.loss_forward_mappings.loss_rank.preds_S.recorder=logits',
            ],
            "reads recorder 'logits', which is not in student_recorders: fc",
        ),
    ],
)
def test_train_refuses(arguments, message, tmp_path):
    done = run_tool('train.py', *arguments, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert 'train.py: error: ' in done.stderr
    assert re.search(message, done.stderr)
    assert 'Traceback' not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['gone.pth'], "checkpoint 'gone.pth' does not exist"),
        ([KD, '--out', 'results.txt'], '--out must end in'),
        ([KD, '--out', 'r.json', '--out-item', 'pred'], 'only be written to a .pkl'),
    ],
)
def test_test_refuses(arguments, message, tmp_path):
    done = run_tool('test.py', KD, *arguments, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert message in done.stderr


def test_compare_refuses(tmp_path):
    done = run_tool('compare.py', '--teacher', KD, '--arm', 'KD', cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert '--arm takes "NAME=CONFIG" or "NAME=CONFIG KEY=VALUE", got \'KD\'' in done.stderr


def test_metrics_of_a_plain_model_are_written(tmp_path):
    config = 'mmkendall::digits/resnet18-w4_1xb64_digits.py'
    # After one epoch BatchNorm's statistics still lag, and a student can be at chance.
    options = ['train_cfg.max_epochs=4', 'randomness.seed=0']
    run_tool('train.py', config, '--cfg-options', *options, cwd=tmp_path)
    checkpoint = tmp_path / 'work_dirs' / 'resnet18-w4_1xb64_digits' / 'epoch_4.pth'
    run_tool('test.py', config, checkpoint, '--out', 'metrics.json', cwd=tmp_path)
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    assert metrics['accuracy/top1'] > 10, metrics

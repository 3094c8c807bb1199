"""Two processes are one: the same losses for the same global batch.

Compared are the losses of every iteration of an epoch, so the weights that the averaged gradients
lead to are compared as well. GroupNorm in place of BatchNorm, whose statistics are of a process,
no augmentation and no shuffling: then process r of R takes the images r, r + R, ... of each global
batch, and the mean of the processes' losses is the loss of the whole.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ..conftest import REPOSITORY, run_tool

CONFIG = """
_base_ = ['{base}']
custom_imports = dict(imports=['record_losses'])
custom_hooks = [dict(type='RecordLosses')]
norm = dict(norm_cfg=dict(type='GN', num_groups=2))
model = dict(architecture=dict(backbone=norm), teacher=dict(backbone=norm), teacher_ckpt=None)
train_dataloader = dict(
    batch_size={batch},
    dataset=dict(indices=320, pipeline=[dict(type='mmpretrain.PackInputs')]),
    sampler=dict(shuffle=False),
)
train_cfg = dict(max_epochs=1)
allow_random_teacher = True
randomness = dict(seed=0)
"""


# What Slurm does for one task: srun takes its own options off and runs the rest.
SRUN = """#!/usr/bin/env bash
echo "$@" > "$SRUN_SEEN"
while [ "$1" != python ]; do shift; done
export SLURM_PROCID=0 SLURM_NTASKS=1 SLURM_LOCALID=0 SLURM_NODELIST=localhost
exec "$@"
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return listener.getsockname()[1]


def losses_of(work_dir: Path, processes: int) -> list[dict[str, float]]:
    """Per iteration the mean over the processes of each loss."""
    ranks = [
        json.loads((work_dir / f'losses-{rank}.json').read_text()) for rank in range(processes)
    ]
    return [
        {name: np.mean([step[name] for step in steps]) for name in steps[0]}
        for steps in zip(*ranks, strict=True)
    ]


@pytest.mark.skipif(
    torch.__version__.startswith('1.13') and sys.version_info >= (3, 11),
    reason="torch 1.13's own launcher fails on Python 3.11",
)
def test_two_processes_give_the_losses_of_one(tmp_path):
    base = REPOSITORY / 'configs/digits/kd-rank_logits_resnet18-w16_resnet18-w4_1xb64_digits.py'
    runs = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        config = folder / 'config.py'
        config.write_text(CONFIG.format(base=base, batch=64 // processes))
        run_tool(
            'dist_train.sh', config, str(processes), '--work-dir', folder, cwd=tmp_path,
            PORT=str(free_port()), PYTHONPATH=str(Path(__file__).parent),
        )  # fmt: skip
        runs.append(losses_of(folder, processes))
    assert len(runs[0]) == len(runs[1]) == 5
    assert 'distill.loss_rank' in runs[0][0]
    for one, two in zip(*runs, strict=True):
        assert one.keys() == two.keys()
        for name in one:
            assert abs(one[name] - two[name]) < 1e-5, name

    done = run_tool(
        'dist_test.sh', tmp_path / '2' / 'config.py', tmp_path / '2' / 'epoch_1.pth', '2',
        '--work-dir', tmp_path, cwd=tmp_path,
        PORT=str(free_port()), PYTHONPATH=str(Path(__file__).parent),
    )  # fmt: skip
    assert 'accuracy/top1' in done.stdout


def test_slurm_launchers(tmp_path):
    """The scripts hand Slurm the right job, and the job runs under mmengine's Slurm launcher."""
    programs = tmp_path / 'bin'
    programs.mkdir()
    (programs / 'srun').write_text(SRUN)
    (programs / 'scontrol').write_text('#!/usr/bin/env bash\necho localhost\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    seen = tmp_path / 'seen'
    environment = dict(
        PATH=f'{programs}:{os.environ["PATH"]}', SRUN_SEEN=str(seen), GPUS='1', GPUS_PER_NODE='1',
        MASTER_ADDR='127.0.0.1', MASTER_PORT=str(free_port()), SRUN_ARGS='--quiet --exclusive',
    )  # fmt: skip
    config = 'mmkendall::digits/resnet18-w4_1xb64_digits.py'
    options = ['--cfg-options', 'train_cfg.max_epochs=1']
    run_tool(
        'slurm_train.sh', 'part', 'job', config, tmp_path, *options, cwd=tmp_path, **environment
    )
    assert '-p part --job-name=job --gres=gpu:1 --ntasks=1' in seen.read_text()
    assert '--quiet --exclusive python -u' in seen.read_text()
    done = run_tool(
        'slurm_test.sh', 'part', 'job', config, tmp_path / 'epoch_1.pth', '--work-dir', tmp_path,
        cwd=tmp_path, **environment,
    )  # fmt: skip
    assert 'accuracy/top1' in done.stdout

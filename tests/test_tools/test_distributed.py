"""Several processes are one: the same gradients and losses for the same global batch.

GroupNorm in place of BatchNorm, whose statistics are of a process, no augmentation and no
shuffling: then process r of R takes the images r, r + R, ... of each global batch, and the mean of
the processes' losses is the loss of the whole. Of the training tool the losses of every iteration
of an epoch are compared, so the weights that the averaged gradients lead to are compared as well;
its last batch is short.
"""

from __future__ import annotations

import copy
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from torch import nn

from ..conftest import REPOSITORY, run_tool
from ..processes import run_in_processes

CONFIG = """
_base_ = ['{base}']
allow_random_teacher = True
custom_imports = dict(imports=['record_losses', 'dying_rank'])
custom_hooks = [dict(type='RecordLosses'), {hook}]
norm = dict(norm_cfg=dict(type='GN', num_groups=2))
model = dict(architecture=dict(backbone=norm), teacher=dict(backbone=norm), teacher_ckpt=None)
train_dataloader = dict(
    batch_size={batch},
    dataset=dict(indices=324, pipeline=[dict(type='mmpretrain.PackInputs')]),
    sampler=dict(shuffle=False),
)
train_cfg = dict(max_epochs=1)
allow_random_teacher = True
randomness = dict(seed=0)
"""


BASE = REPOSITORY / 'configs/digits/kd-rank_logits_resnet18-w16_resnet18-w4_1xb64_digits.py'
DIAGNOSTICS = "dict(type='mmkendall.DistillDiagnosticsHook', interval=2)"

# What Slurm does: srun takes its own options off and runs the rest, once a task, each as a node.
SRUN = """#!/usr/bin/env bash
echo "$@" > "$SRUN_SEEN"
for word in "$@"; do case "$word" in --ntasks=*) tasks=${word#--ntasks=};; esac; done
while [ "$1" != python ]; do shift; done
export SLURM_NTASKS=$tasks SLURM_LOCALID=0 SLURM_NODELIST=localhost
for ((task = 0; task < tasks; task++)); do SLURM_PROCID=$task "$@" & done
status=0
for ((task = 0; task < tasks; task++)); do wait -n || { status=$?; kill $(jobs -p); }; done
exit $status
"""

old_launcher = pytest.mark.skipif(
    torch.__version__.startswith('1.13') and sys.version_info >= (3, 11),
    reason="torch 1.13's own launcher fails on Python 3.11",
)


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


CASES = {
    'kd of mmrazor': dict(kind='mmrazor.SingleTeacherDistill'),
    'kd': dict(),
    'rank alone': dict(losses=['loss_rank']),
    'batch': dict(rank=dict(across='batch', gather=True, steepness=2.0)),
    'diffkendall': dict(rank=dict(surrogate='diffkendall', topk=4)),
    'ctkd': dict(base='ctkd-rank_logits'),
    'dkd': dict(base='dkd-rank_logits'),
    'lskd': dict(base='lskd-rank_logits'),
    'wttm': dict(base='wttm-rank_logits'),
    'pld': dict(base='pld_logits'),
}


def build_case(
    base: str = 'kd-rank_logits', losses=None, rank=None, kind='mmkendall.LogitDistill'
) -> nn.Module:
    """A small pair with GroupNorm, the same weights in every process."""
    path = f'configs/digits/{base}_resnet18-w16_resnet18-w4_1xb64_digits.py'
    model = Config.fromfile(str(REPOSITORY / path)).model
    model.type = kind
    model.teacher_ckpt = None
    model.teacher = copy.deepcopy(model.architecture)
    for part in (model.architecture, model.teacher):
        part.backbone.norm_cfg = dict(type='GN', num_groups=2)
    distiller = model.distiller
    if losses:
        distiller.distill_losses = {name: distiller.distill_losses[name] for name in losses}
        distiller.loss_forward_mappings = {
            name: distiller.loss_forward_mappings[name] for name in losses
        }
    distiller.distill_losses.get('loss_rank', {}).update(rank or {})
    torch.manual_seed(0)
    built = MODELS.build(model)
    built.train()
    return built


def two_steps(wrap, part: slice) -> dict[str, list]:
    """Gradients of two steps of each case on a part of the batch.

    A parameter that gets no gradient ends the second step of DistributedDataParallel.
    """
    torch.manual_seed(1)
    images, labels = torch.randn(8, 1, 8, 8), torch.arange(8)
    samples = [DataSample().set_gt_label(label) for label in labels.tolist()]
    gradients = {}
    for name, case in CASES.items():
        model = build_case(**case)
        wrapped = wrap(model)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.SGD(trained, lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            losses = wrapped(images[part], samples[part], mode='loss')
            model.parse_losses(losses)[0].backward()
            optimizer.step()
        gradients[name] = [parameter.grad for parameter in trained]
        del model, wrapped, optimizer, losses, trained
    return gradients


def _steps_of_rank(rank: int, processes: int, folder: Path) -> None:
    def wrap(model):
        return MMDistributedDataParallel(model, find_unused_parameters=False)

    torch.save(two_steps(wrap, slice(rank, None, processes)), folder / f'{rank}.pth')


@pytest.mark.long
@pytest.mark.parametrize('processes', [2, pytest.param(4, marks=pytest.mark.trust)])
def test_gradients_are_those_of_one_process(processes, tmp_path):
    expected = two_steps(lambda model: model, slice(None))
    run_in_processes(_steps_of_rank, processes, tmp_path, processes, tmp_path)
    for rank in range(processes):
        for name, gradients in torch.load(tmp_path / f'{rank}.pth').items():
            assert len(gradients) == len(expected[name]) > 50
            for gradient, right in zip(gradients, expected[name], strict=True):
                assert (right != 0).any()
                # The second step starts from weights that were rounded otherwise.
                distance = (gradient - right).norm()
                assert distance < 1e-4 * right.norm() + 1e-5, name


def write_config(folder: Path, processes: int, hook: str = DIAGNOSTICS) -> Path:
    folder.mkdir(exist_ok=True)
    config = folder / 'config.py'
    config.write_text(CONFIG.format(base=BASE, batch=64 // processes, hook=hook))
    return config


def environment_of_tools(**more: str) -> dict[str, str]:
    return dict(PORT=str(free_port()), PYTHONPATH=str(Path(__file__).parent), **more)


def assert_same_losses(one: list[dict], several: list[dict]) -> None:
    assert len(one) == len(several) == 6
    assert 'distill.loss_rank' in one[0]
    for alone, together in zip(one, several, strict=True):
        assert alone.keys() == together.keys()
        for name in alone:
            assert abs(alone[name] - together[name]) < 1e-5, name


def train_one(tmp_path: Path) -> list[dict]:
    """The losses of one process, without the hook that the others have."""
    folder = tmp_path / '1'
    config = write_config(folder, 1, hook="dict(type='EmptyCacheHook')")
    run_tool('train.py', config, '--work-dir', folder, cwd=tmp_path, **environment_of_tools())
    return losses_of(folder, 1)


@pytest.mark.long
@old_launcher
@pytest.mark.parametrize('processes', [2, pytest.param(4, marks=pytest.mark.trust)])
def test_several_processes_give_the_losses_of_one(processes, tmp_path):
    """The diagnostics, which one process measures, change nothing."""
    one = train_one(tmp_path)
    folder = tmp_path / 'several'
    config = write_config(folder, processes)
    run_tool(
        'dist_train.sh', config, str(processes), '--work-dir', folder, cwd=tmp_path,
        **environment_of_tools(),
    )  # fmt: skip
    assert_same_losses(one, losses_of(folder, processes))
    (log,) = folder.glob('*/vis_data/scalars.json')
    assert '"diag/tau"' in log.read_text()

    done = run_tool(
        'dist_test.sh', config, folder / 'epoch_1.pth', str(processes), '--work-dir', tmp_path,
        cwd=tmp_path, **environment_of_tools(),
    )  # fmt: skip
    assert 'accuracy/top1' in done.stdout


@pytest.mark.trust
@old_launcher
def test_metrics_do_not_depend_on_the_number_of_processes(tmp_path):
    """500 images are no multiple of three: the sampler repeats one, and it is not counted."""
    config = write_config(tmp_path / 'config', 1)
    run_tool('train.py', config, '--work-dir', tmp_path, cwd=tmp_path, **environment_of_tools())
    outputs = []
    for processes in (1, 3):
        out = tmp_path / f'{processes}.json'
        run_tool(
            'dist_test.sh', config, tmp_path / 'epoch_1.pth', str(processes), '--work-dir',
            tmp_path, '--out', out, cwd=tmp_path, **environment_of_tools(),
        )  # fmt: skip
        outputs.append(json.loads(out.read_text()))
    assert outputs[0] == pytest.approx(outputs[1])


@pytest.mark.trust
@old_launcher
@pytest.mark.parametrize('how', ['raise', 'kill'])
def test_a_rank_that_dies_ends_the_others(how, tmp_path):
    """In bounded time, with its own message or signal, and with the process that was first."""
    config = write_config(tmp_path, 2, hook=f"dict(type='DyingRank', how='{how}')")
    start = time.monotonic()
    done = run_tool(
        'dist_train.sh', config, '2', '--work-dir', tmp_path, cwd=tmp_path, check=False,
        **environment_of_tools(),
    )  # fmt: skip
    assert done.returncode == 1
    assert time.monotonic() - start < 120  # Most of it is the start of two processes.
    said = done.stdout + done.stderr
    cause = said[said.index('Root Cause (first observed failure)') :]
    assert re.search(r'rank +: 1 ', cause), cause
    if how == 'kill':
        assert 'Signal 9 (SIGKILL) received' in cause
    else:
        assert 'RuntimeError: the disk of process 1 is gone' in said


@pytest.mark.trust
@old_launcher
def test_two_nodes_are_one(tmp_path):
    """Two launchers, as on two machines, that meet at the address of the first."""
    one = train_one(tmp_path)
    config = write_config(tmp_path / 'nodes', 2)
    shared = environment_of_tools(NNODES='2', MASTER_ADDR='127.0.0.1')
    launched = [
        subprocess.Popen(
            ['bash', REPOSITORY / 'tools/dist_train.sh', config, '1', '--work-dir', config.parent],
            cwd=tmp_path,
            env={
                **os.environ,
                'OMP_NUM_THREADS': '1',
                'NODE_RANK': str(node),
                'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
                **shared,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for node in (1, 0)  # The first node may come last.
    ]
    for process in launched:
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said[-3000:]
    assert_same_losses(one, losses_of(config.parent, 2))


@pytest.mark.parametrize('script', ['dist_train.sh', 'dist_test.sh'])
def test_several_nodes_need_an_address(script, tmp_path):
    """Each would else wait for itself."""
    done = run_tool(script, 'c.py', 'c.pth', '2', cwd=tmp_path, check=False, NNODES='2')
    assert done.returncode == 2
    assert 'NNODES=2 needs MASTER_ADDR' in done.stderr


@pytest.mark.parametrize(
    ('script', 'words'),
    [
        ('dist_train.sh', 'CONFIG PROCESSES [options of train.py]'),
        ('dist_test.sh', 'CONFIG CHECKPOINT PROCESSES [options of test.py]'),
        ('slurm_train.sh', 'PARTITION JOB_NAME CONFIG WORK_DIR [options of train.py]'),
        ('slurm_test.sh', 'PARTITION JOB_NAME CONFIG CHECKPOINT [options of test.py]'),
    ],
)
def test_launchers_say_what_they_need(script, words, tmp_path):
    too_few = words.partition(' [')[0].split()[:-1]
    done = run_tool(script, *too_few, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert re.fullmatch(rf'usage: \S*{script} {re.escape(words)}\n', done.stderr)


def slurm(folder: Path, **more: str) -> dict[str, str]:
    """An environment with Slurm's programs, as far as the launchers use them."""
    programs = folder / 'bin'
    programs.mkdir()
    (programs / 'srun').write_text(SRUN)
    (programs / 'scontrol').write_text('#!/usr/bin/env bash\necho localhost\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    return dict(
        PATH=f'{programs}:{os.environ["PATH"]}', SRUN_SEEN=str(folder / 'seen'),
        MASTER_ADDR='127.0.0.1', MASTER_PORT=str(free_port()), **more,
    )  # fmt: skip


@pytest.mark.long
def test_slurm_launchers(tmp_path):
    """The scripts hand Slurm the right job, and the job runs under mmengine's Slurm launcher."""
    environment = slurm(tmp_path, GPUS='1', SRUN_ARGS='--quiet --exclusive')
    seen = Path(environment['SRUN_SEEN'])
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


@pytest.mark.trust
def test_two_tasks_of_slurm_are_one(tmp_path):
    one = train_one(tmp_path)
    config = write_config(tmp_path / 'slurm', 2)
    environment = slurm(tmp_path, GPUS='2', PYTHONPATH=str(Path(__file__).parent))
    run_tool('slurm_train.sh', 'part', 'job', config, config.parent, cwd=tmp_path, **environment)
    seen = Path(environment['SRUN_SEEN']).read_text()
    assert '--gres=gpu:2 --ntasks=2 --ntasks-per-node=2' in seen
    assert '--kill-on-bad-exit=1' in seen
    assert_same_losses(one, losses_of(config.parent, 2))

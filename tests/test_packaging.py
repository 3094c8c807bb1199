"""The package as a user gets it: bare, and as a wheel somewhere else."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from .conftest import REPOSITORY


def needs_of(package: str) -> set[str]:
    """The distributions that a package needs, itself among them, without extras."""
    found, waiting = set(), [package]
    while waiting:
        name = waiting.pop()
        try:
            requires = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # A requirement of another platform.
        if name in found:
            continue
        found.add(name)
        waiting += [
            re.match(r'[\w.-]+', line)[0].lower() for line in requires if 'extra ==' not in line
        ]
    return found


def test_works_with_torch_alone(tmp_path):
    """In an interpreter that sees torch, what torch needs, and the package: nothing else."""
    site = tmp_path / 'site'
    site.mkdir()
    for name in needs_of('torch'):
        for file in importlib.metadata.files(name):
            top = file.parts[0]
            if top not in ('..', '__pycache__') and not (site / top).exists():
                (site / top).symlink_to(importlib.metadata.distribution(name).locate_file(top))
    (site / 'mmkendall').symlink_to(REPOSITORY / 'mmkendall')
    code = (
        f'import sys; sys.path.insert(0, {str(site)!r})\n'
        'import torch, mmkendall\n'
        'loss = mmkendall.kendall_rank_loss(torch.randn(4, 9, requires_grad=True),'
        ' torch.randn(4, 9))\n'
        'loss.backward()\n'
        'mmkendall.kendall_tau(torch.randn(4, 9), torch.randn(4, 9))\n'
        'import importlib.util as u\n'
        'assert not any(u.find_spec(n) for n in ("mmengine", "numpy", "scipy", "rich"))\n'
        'print(mmkendall.__version__, float(loss))\n'
    )
    done = subprocess.run(
        [sys.executable, '-I', '-S', '-c', code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope='session')
def wheel(tmp_path_factory) -> Path:
    """A wheel of what git tracks, built from a copy, so that the checkout stays clean."""
    source = tmp_path_factory.mktemp('source')
    tracked = subprocess.run(
        ['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, tracked.split('\0')):
        if (REPOSITORY / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, source / name, follow_symlinks=False)
    out = tmp_path_factory.mktemp('wheel')
    command = [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps']
    subprocess.run(
        [*command, '--no-build-isolation', '--wheel-dir', str(out), str(source)], check=True
    )
    return next(out.glob('mmkendall-*.whl'))


def test_wheel_holds_configs_and_tools(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(
        ['git', 'ls-files', 'configs', 'tools'],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert tracked
    assert {f'mmkendall/.mim/{name}' for name in tracked} <= names
    assert 'mmkendall/.mim/model-index.yml' in names
    assert not [name for name in names if '__pycache__' in name or name.startswith('tests')]


@pytest.mark.long
def test_wheel_works_elsewhere(wheel, tmp_path):
    site = tmp_path / 'site'
    subprocess.run(
        [sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps', '--target', site, wheel],
        check=True,
    )
    done = subprocess.run(
        [
            sys.executable, str(site / 'mmkendall/.mim/tools/train.py'),
            'mmkendall::digits/kd-rank_logits_resnet18-w16_resnet18-w4_1xb64_digits.py',
            '--cfg-options', 'model.teacher_ckpt=None', 'allow_random_teacher=True',
            'train_cfg.max_epochs=1',
        ],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(site), 'OMP_NUM_THREADS': '1'},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'distill.loss_rank' in done.stdout
    assert str(REPOSITORY) not in done.stdout

    # A config of the zoo by its name: found and read, as far as the teacher that nobody trained.
    done = subprocess.run(
        [
            sys.executable, str(site / 'mmkendall/.mim/tools/train.py'),
            'mmkendall::cifar100/kd/kd-rank_logits_resnet56_resnet20_1xb64_cifar100.py',
        ],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(site), 'OMP_NUM_THREADS': '1'},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr[-3000:]
    assert "'work_dirs/resnet56_1xb64_cifar100/epoch_240.pth' does not exist" in done.stderr

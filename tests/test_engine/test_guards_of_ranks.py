"""Two processes skip the same steps, stop together, and go on with their own random states."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from mmkendall.compat import safe_loading

from ..conftest import REPOSITORY, run_tool
from ..test_tools.test_distributed import free_port
from ..trust.compare import differences
from ..trust.digits import write_config

pytestmark = [
    pytest.mark.trust,
    pytest.mark.skipif(
        torch.__version__.startswith('1.13') and sys.version_info >= (3, 11),
        reason="torch 1.13's own launcher fails on Python 3.11",
    ),
]


def train(folder: Path, *options: str, **config):
    folder.mkdir(exist_ok=True)
    write_config(folder, **config)
    return run_tool(
        'dist_train.sh', 'config.py', '2', '--work-dir', 'work', *options,
        cwd=folder, check=False, PORT=str(free_port()), PYTHONPATH=str(REPOSITORY),
    )  # fmt: skip


def test_a_nan_of_one_process_is_skipped_by_both(tmp_path):
    done = train(tmp_path, fault="kind='nan', at=[4], rank=1", action='skip', length=2)
    assert done.returncode == 0, done.stderr[-3000:]
    said = done.stdout + done.stderr
    assert 'the loss is not finite at iteration 5' in said
    saved = safe_loading.load(tmp_path / 'work/epoch_2.pth', map_location='cpu')
    for part in ('state_dict', 'ema_state_dict'):
        assert all(torch.isfinite(value).all() for value in saved[part].values())
    assert saved['message_hub']['runtime_info']['skipped_steps'] == 1


def test_a_nan_of_one_process_stops_both(tmp_path):
    done = train(tmp_path, fault="kind='nan', at=[4], rank=1", length=2)
    assert done.returncode == 1
    assert 'the loss is not finite at iteration 5 (epoch 2): loss = nan' in done.stderr
    assert 'in another process, whose log says more' in done.stderr
    assert (tmp_path / 'work/epoch_1.pth').is_file()
    assert not (tmp_path / 'work/epoch_2.pth').exists()


def test_sigterm_of_one_process_stops_both_and_the_run_goes_on_as_if_it_had_not(tmp_path):
    alone = train(tmp_path / 'alone', images=192, length=3)
    assert alone.returncode == 0, alone.stderr[-3000:]
    folder = tmp_path / 'stopped'
    done = train(folder, images=192, length=3, fault="kind='sigterm', at=[7], rank=1")
    said = done.stderr.replace(f'{folder}/', '')
    assert 'train.py: stopped by SIGTERM. The last whole checkpoint is work/iter_10.pth' in said
    assert 'dist_train.sh config.py 2 --work-dir work --resume' in said
    resumed = train(folder, '--resume', images=192, length=3)
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert not differences(
        tmp_path / 'alone/work/epoch_3.pth', tmp_path / 'stopped/work/epoch_3.pth'
    )

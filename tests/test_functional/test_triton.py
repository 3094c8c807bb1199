"""The CUDA backend: how it is chosen, and its kernels in a process of their own."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmkendall.functional import kendall_rank_loss
from mmkendall.functional.backends import choose_backend, triton_cuda

CPU = torch.device('cpu')


def reason(device='cuda', dtype=torch.float32, num_classes=10):
    return triton_cuda.unavailable(torch.device(device), dtype, num_classes, 'product')


@pytest.mark.kernels
@pytest.mark.skipif(
    importlib.util.find_spec('triton') is None, reason='Triton has no wheel for this platform'
)
def test_kernels():
    """Triton reads TRITON_INTERPRET when it is imported, and other tests may import it too."""
    environment = os.environ | ({} if torch.cuda.is_available() else {'TRITON_INTERPRET': '1'})
    checks = Path(__file__).with_name('check_triton_kernels.py')
    done = subprocess.run(
        [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', str(checks)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_without_triton(monkeypatch):
    monkeypatch.setattr(triton_cuda, '_installed', lambda: False)
    assert reason() == 'Triton is not installed'


def test_says_why_it_does_not_run(monkeypatch):
    monkeypatch.setattr(triton_cuda, '_installed', lambda: True)
    monkeypatch.delenv('TRITON_INTERPRET', raising=False)
    assert reason() is None
    assert 'CUDA' in reason(device='cpu')
    assert 'float32' in reason(dtype=torch.float64)
    assert '262144' in reason(num_classes=300_000)
    with pytest.raises(RuntimeError, match="backend 'triton' cannot run here"):
        kendall_rank_loss(torch.zeros(2, 3), torch.zeros(2, 3), backend='triton')


def test_auto_leaves_the_interpreter_alone(monkeypatch):
    monkeypatch.setattr(triton_cuda, '_installed', lambda: True)
    monkeypatch.setenv('TRITON_INTERPRET', '1')
    assert reason(device='cpu') is None
    assert choose_backend('auto', CPU, torch.float32, 10, 'product') != 'triton'


def test_algorithms_are_checked():
    rows = torch.zeros(2, 3)
    with pytest.raises(ValueError, match='algorithm must be one of'):
        triton_cuda.rank_loss(rows, rows, 1.0, 'product', True, algorithm='fast')
    for surrogate in ('diffkendall', 'logistic'):
        with pytest.raises(ValueError, match=surrogate):
            triton_cuda.rank_loss(rows, rows, 1.0, surrogate, True, algorithm='window')

"""Loops are compiled once a machine, and one line says so."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from mmkendall.functional.backends import numba_cpu

LINE = 'The CPU loops of the ranking loss were compiled, which took'
SCRIPT = """
import torch
from mmkendall import kendall_rank_loss

torch.set_num_threads(1)
kendall_rank_loss(torch.randn(4, 20, requires_grad=True), torch.randn(4, 20)).backward()
"""


@pytest.mark.skipif(
    numba_cpu.unavailable(torch.device('cpu'), torch.float32, 2, 'product') is not None,
    reason='Numba is not installed',
)
def test_processes_that_start_together_compile_once(tmp_path):
    def start():
        return subprocess.Popen(
            [sys.executable, '-c', SCRIPT],
            env={**os.environ, 'NUMBA_CACHE_DIR': str(tmp_path)},
            stderr=subprocess.PIPE,
            text=True,
        )

    together = [start() for _ in range(3)]
    outputs = [process.communicate()[1] for process in together]
    assert [process.returncode for process in together] == [0, 0, 0], outputs
    assert sum(output.count(LINE) for output in outputs) == 1
    later = start()
    assert LINE not in later.communicate()[1]
    assert later.returncode == 0

"""`make gpu`, rehearsed on a CPU; check_triton_kernels.py tests the kernels themselves."""

from __future__ import annotations

import csv

import pytest
import torch

from mmkendall import functional
from mmkendall.functional.backends import triton_cuda
from tests.conftest import load_tool, run_tool

TOOL = 'misc/gpu_report.py'


@pytest.mark.skipif(torch.cuda.is_available(), reason='for a machine without a GPU')
def test_needs_a_gpu(tmp_path):
    done = run_tool(TOOL, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith('gpu_report.py: error: torch')
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ('part', 'words'),
    [
        ('environment', torch.__version__),
        ('ranks', 'gloo, 2 processes'),
        ('racecheck', 'skipped: compute-sanitizer is not on the PATH'),
        ('compiled', 'skipped: '),
        ('sines', 'products of high precision'),
        ('losses', 'linear_kendall_rank_loss'),
    ],
)
def test_parts(part, words, tmp_path):
    done = run_tool(TOOL, '--rehearse', '--part', part, cwd=tmp_path, PATH='/usr/bin:/bin')
    assert words in done.stdout
    assert 'FAILS' not in done.stdout


def test_every_function_is_compared_with_the_cpu():
    compared = {name.split()[0] for name in load_tool(TOOL)._every_loss()}
    # Of the three that are left out, two are no functions, and the last is inside another.
    others = {'SURROGATES', 'PairShares', 'linear_head_losses'}
    assert compared == {*functional.__all__} - others


@pytest.mark.trust
def test_whole_rehearsal(tmp_path):
    pytest.importorskip('triton')
    done = run_tool(TOOL, '--rehearse', '--output', 'report', cwd=tmp_path)
    assert 'FAILS' not in done.stdout
    report = (tmp_path / 'report' / 'report.md').read_text()
    assert 'None failed.' in report
    assert 'A rehearsal on a CPU' in report
    with open(tmp_path / 'report' / 'results.csv') as file:
        rows = list(csv.DictReader(file))
    kernels = len(triton_cuda.SURROGATES) + len(triton_cuda.WINDOW_SURROGATES)
    assert len([row for row in rows if row['part'] == 'definition']) == kernels
    assert (tmp_path / 'report' / 'speed.svg').read_text().startswith('<svg')

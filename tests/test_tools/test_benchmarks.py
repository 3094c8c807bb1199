"""The page of the benchmarks comes from its CSVs; how fast anything is, no test says."""

from __future__ import annotations

import csv

import pytest

import mmkendall.functional

from ..conftest import REPOSITORY, call_tool

SUMMARIZE = 'benchmarks/summarize.py'


@pytest.fixture(autouse=True)
def _common(monkeypatch):
    """The scripts find what they share beside them, as a command does."""
    monkeypatch.syspath_prepend(str(REPOSITORY / 'tools/benchmarks'))


def test_the_page_is_written_from_its_tables(tmp_path, monkeypatch):
    folder, page = REPOSITORY / 'docs/benchmarks', tmp_path / 'page.md'
    assert not call_tool(monkeypatch, SUMMARIZE, '--folder', folder, '--output', page)
    assert page.read_text() == (REPOSITORY / 'docs/benchmarks.md').read_text()


@pytest.mark.long
def test_every_loss_stands_beside_a_divergence(tmp_path, monkeypatch):
    """From the measurement to the page: a row a loss, with its time over that of KL."""
    out = ('--short', '--seconds', '0.01', '--output-dir', tmp_path)
    assert not call_tool(monkeypatch, 'benchmarks/loss_costs.py', *out)
    with open(tmp_path / 'loss_costs_cpu_1t.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    losses = {name for name in mmkendall.functional.__all__ if name.endswith(('_loss', '_topk'))}
    # Of a linear head, which has a benchmark of its own.
    losses.remove('linear_kendall_rank_loss')
    assert losses <= {row['subject'] for row in rows}
    page = tmp_path / 'page.md'
    assert not call_tool(monkeypatch, SUMMARIZE, '--folder', tmp_path, '--output', page)
    lines = page.read_text().splitlines()
    assert '| case | subject | median | spread | memory | times KL |' in lines
    (row,) = [row for row in rows if (row['case'], row['subject']) == ('(64,10) k=1', 'pld_loss')]
    (line,) = [line for line in lines if line.startswith('| (64,10) k=1 | pld_loss |')]
    (divergence,) = [
        float(each['median_s'])
        for each in rows
        if (each['case'], each['subject']) == ('(64,10) k=1', 'KL')
    ]
    shown = float(line.rstrip(' |').rpartition('| ')[2].removesuffix('x'))
    assert abs(shown / (float(row['median_s']) / divergence) - 1) < 0.01

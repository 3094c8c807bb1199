"""The benchmark of a training step runs every arm; how fast is not a test's business."""

from __future__ import annotations

import csv

import pytest

from ..conftest import call_tool

TOOL = 'benchmarks/distill_step.py'


def test_every_arm_has_a_row(tmp_path, monkeypatch, capsys):
    options = ('--cases', 'digits', '--rounds', '5', '--batch', '4')
    assert call_tool(monkeypatch, TOOL, *options, '--csv', tmp_path / 'out.csv') == 0
    with open(tmp_path / 'out.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    arms = [row['arm'] for row in rows]
    assert arms[:2] == ['SingleTeacherDistill', 'LogitDistill']
    assert 'LogitDistill, cached' in arms
    assert arms[6:8] == ['teacher alone', 'teacher alone, channels_last']
    assert float(rows[0]['ratio']) == float(rows[6]['ratio']) == 1
    assert all(float(row['images_per_s']) > 0 for row in rows)
    assert 'speed-up' in capsys.readouterr().out


def test_refuses_too_few_rounds(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        call_tool(monkeypatch, TOOL, '--rounds', '4')
    assert '--rounds must be 5 or more, got 4' in capsys.readouterr().err

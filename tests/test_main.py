"""The console command finds the tools that the package ships."""

from __future__ import annotations

import os
import subprocess
import sys

from .conftest import REPOSITORY
from .test_tools.test_distributed import old_launcher


def mmkendall(*arguments, cwd):
    return subprocess.run(
        [sys.executable, '-m', 'mmkendall', *arguments],
        cwd=cwd,
        env={**os.environ, 'PYTHONPATH': str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_names_its_tools(tmp_path):
    done = mmkendall('--help', cwd=tmp_path)
    assert done.returncode == 0
    for tool in ('train', 'test', 'dist_train', 'model_converters/student_from_distill'):
        assert f' {tool}' in done.stdout


def test_an_unknown_tool_is_one_sentence(tmp_path):
    done = mmkendall('trian', 'config.py', cwd=tmp_path)
    assert done.returncode == 2
    assert "there is no tool 'trian'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_runs_a_tool_with_its_options_and_its_exit_status(tmp_path):
    done = mmkendall('train', 'missing.py', '--work-dir', 'out', cwd=tmp_path)
    assert done.returncode == 2
    assert "train.py: error: config 'missing.py' does not exist" in done.stderr


@old_launcher
def test_runs_a_launcher(tmp_path):
    """The arguments of the shell script, and the interpreter that was called."""
    done = mmkendall('dist_train', 'missing.py', '1', cwd=tmp_path)
    assert done.returncode != 0
    assert "config 'missing.py' does not exist" in done.stderr

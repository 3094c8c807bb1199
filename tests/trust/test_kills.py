"""kill -9 at any moment: the run that is resumed ends as the one left alone, to the bit."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ..conftest import REPOSITORY


def kill(folder, *options: str) -> None:
    done = subprocess.run(
        [sys.executable, '-m', 'tests.trust.kills', folder, *options],
        cwd=REPOSITORY,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    assert '0 failures' in done.stdout


@pytest.mark.long
def test_three_kills_lose_nothing(tmp_path):
    kill(tmp_path, '--kills', '3', '--kinds', '1')


@pytest.mark.trust
def test_forty_kills_lose_nothing(tmp_path):
    kill(tmp_path, '--kills', '40')

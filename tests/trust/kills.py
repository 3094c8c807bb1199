"""Kills trainings at random moments, resumes them, and compares them with one left alone.

    python -m tests.trust.kills FOLDER --kills 40

Each kill is SIGKILL to a process that runs tools/train.py; two in five strike while a checkpoint
is being written. All processes are forked from this one, which has imported all that they need.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import mmengine.config.config
import torch

from mmkendall import compat

from ..conftest import REPOSITORY
from .compare import count_tensors, differences
from .digits import without_layout, write_config

KINDS = {
    'epochs, images loaded in the process': dict(),
    'epochs, two workers that stay': dict(workers=2),
    'epochs, saved every 4 iterations, steps of 2': dict(
        by_epoch=False, interval=4, accumulate=2
    ),
    'iterations': dict(
        loop='iterations', by_epoch=False, interval=4, sampler='InfiniteSampler'
    ),
    'iterations, two workers': dict(
        loop='iterations', by_epoch=False, interval=4, sampler='InfiniteSampler', workers=2
    ),
}  # fmt: skip


def train(folder: Path, *options: str) -> int:
    """Starts tools/train.py in a process of its own; returns its number."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        log = os.open(folder / 'output.txt', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.setpgid(0, 0)
        os.chdir(folder)
        sys.argv = ['train.py', 'config.py', '--work-dir', 'work', *options]
        spec = spec_from_file_location('train', REPOSITORY / 'tools/train.py')
        tool = module_from_spec(spec)
        spec.loader.exec_module(tool)
        status = tool.main()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def strike(pid: int, folder: Path, rng: random.Random, duration: float) -> str | None:
    """Kills a training at a random moment; returns when, or None if it ended before."""
    deadline = time.monotonic() + rng.uniform(0.05, 1.1) * duration
    at_a_write = rng.random() < 0.4
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        is_late = time.monotonic() > deadline
        if is_late and (not at_a_write or list((folder / 'work').glob('*.part'))):
            os.killpg(pid, signal.SIGKILL)
            return 'while a checkpoint was written' if at_a_write else 'at a random moment'
        time.sleep(0.0005 if is_late else 0.01)
    return None


def last_file(work_dir: Path) -> Path:
    return Path((work_dir / 'last_checkpoint').read_text())


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', type=Path)
    parser.add_argument('--kills', type=int, default=40)
    parser.add_argument('--kinds', type=int, default=len(KINDS), help='the first so many kinds')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args(arguments)
    compat.apply()
    torch.set_num_threads(1)
    mmengine.config.config.FormatCode = without_layout
    # Imports all that the processes need.

    import mmkendall.models  # noqa: F401

    rng = random.Random(args.seed)
    kinds = dict(list(KINDS.items())[: args.kinds])
    counts: Counter[tuple[str, str]] = Counter()
    left_alone: dict[str, tuple[Path, float]] = {}
    failures: list[str] = []
    for number, (kind, options) in enumerate(kinds.items()):
        folder = args.folder.resolve() / f'{number}'
        folder.mkdir(parents=True)
        write_config(folder, **options)
        start = time.monotonic()
        _, status = os.waitpid(train(folder), 0)
        if status:
            print((folder / 'output.txt').read_text()[-3000:])
            return 1
        left_alone[kind] = folder, time.monotonic() - start
    kills = 0
    while kills < args.kills:
        for kind, (folder, duration) in left_alone.items():
            again = folder.with_name(f'{folder.name}-killed')
            shutil.rmtree(again, ignore_errors=True)
            again.mkdir()
            shutil.copy(folder / 'config.py', again)
            tries = 0
            while True:
                pid = train(again, '--resume')
                # Left alone once there were kills enough, or this training has had its share.
                when = None
                if kills < args.kills and tries < 3:
                    when = strike(pid, again, rng, duration)
                _, status = os.waitpid(pid, 0)
                if when is None:
                    break
                tries += 1
                kills += 1
                counts[kind, when] += 1
            if status:
                failures.append(f'{kind}: status {status}')
                print((again / 'output.txt').read_text()[-3000:])
                continue
            counts[kind, 'ended'] += 1
            found = differences(last_file(folder / 'work'), last_file(again / 'work'))
            best = [
                sorted(path.name for path in (each / 'work').glob('*.pth'))
                for each in (folder, again)
            ]
            if found or best[0] != best[1]:
                failures.append(f'{kind}: {len(found)} differences: {found[:5]} {best}')
    print(f'\n{"training":47} {"kills":>5} {"of them at a write":>18} {"resumed to":>10}  lost')
    print(f'{"":47} {"":>5} {"":>18} {"the end":>10}')
    for kind, (folder, _) in left_alone.items():
        random_ones = counts[kind, 'at a random moment']
        at_writes = counts[kind, 'while a checkpoint was written']
        bad = [failure for failure in failures if failure.startswith(f'{kind}:')]
        lost = '; '.join(bad) or f'0 of {count_tensors(last_file(folder / "work"))} tensors'
        print(
            f'{kind:47} {random_ones + at_writes:5} {at_writes:18} '
            f'{counts[kind, "ended"]:10}  {lost}'
        )
    print(f'{kills} kills, {len(failures)} failures')
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())

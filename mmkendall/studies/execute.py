"""Carries out the tasks of a study, several at a time, on this machine or on a cluster."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mmkendall.studies.plan import Task

POLL_SECONDS = 0.2


class Job(Protocol):
    """A task that is being carried out."""

    def done(self) -> bool: ...

    def cancel(self) -> None: ...


class LocalJobs:
    """A process a task, on this machine.

    Its children are forked from a process that has imported everything already, so a task starts
    in a moment.

    Args:
        devices: the accelerators that processes are dealt out to in turn, by the names that
            ``CUDA_VISIBLE_DEVICES`` takes. Defaults to none, every process sees all.
    """

    def __init__(self, devices: Sequence[str] = ()) -> None:
        self.context = multiprocessing.get_context('forkserver')
        self.context.set_forkserver_preload(['mmkendall.studies.worker'])
        self.devices = devices
        self.started = 0

    def start(self, folder: Path) -> Job:
        device = self.devices[self.started % len(self.devices)] if self.devices else None
        self.started += 1
        process = self.context.Process(target=carry_out_here, args=(str(folder), device))
        process.start()
        return LocalJob(process)


@dataclass
class LocalJob:
    process: Any

    def done(self) -> bool:
        return not self.process.is_alive()

    def cancel(self) -> None:
        self.process.terminate()
        self.process.join()


class ClusterJobs:
    """A job a task, by submitit.

    Args:
        folder: for its logs.
        cluster: ``'slurm'``, ``'local'`` or another that submitit knows.
        parameters: of submitit: ``timeout_min``, ``slurm_partition``, ``gpus_per_node``, ...

    Raises:
        ImportError: submitit is not installed.
    """

    def __init__(self, folder: Path, cluster: str, parameters: dict[str, Any]) -> None:
        import submitit

        self.executor = submitit.AutoExecutor(folder=str(folder), cluster=cluster)
        self.executor.update_parameters(**parameters)

    def start(self, folder: Path) -> Job:
        return self.executor.submit(carry_out_here, str(folder), None)


def carry_out_here(folder: str, device: str | None) -> None:
    """Carries out a task in this process, what it prints goes to ``train.log``."""
    if device is not None:
        os.environ['CUDA_VISIBLE_DEVICES'] = device
    with open(Path(folder) / 'train.log', 'a') as log:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    from mmkendall.engine.errors import REFUSALS
    from mmkendall.studies.worker import carry_out

    try:
        carry_out(folder)
    except REFUSALS as error:  # One sentence, without the way to it.
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)


@dataclass
class Progress:
    """How far it is.

    Attributes:
        done: tasks that are done now, those that were before included.
        total: all tasks.
        seconds_left: an estimate, None where nothing has been measured.
        running: titles of what is under way.
    """

    done: int
    total: int
    seconds_left: float | None
    running: list[str]


def unfinished(tasks: Sequence[Task]) -> list[Task]:
    """All that must still be done for some tasks, what they need included, needs first."""
    return [task for task in each_once(tasks) if task.result() is None]


def each_once(tasks: Sequence[Task]) -> list[Task]:
    """Tasks and all that they need, needs first; of those that are the same, the first."""
    found: dict[Path, Task] = {}
    for task in tasks:
        for each in task.all_tasks():
            found.setdefault(each.folder, each)
    return list(found.values())


def seconds_left(waiting: Sequence[Task], known: Sequence[Task], jobs: int) -> float | None:
    """An estimate by the tasks of each kind that are done; None if a kind is unknown."""
    total = 0.0
    for kind in {task.kind for task in waiting}:
        took = [task.result()['seconds'] for task in known if task.kind == kind]
        if not took:
            return None
        total += sum(took) / len(took) * sum(task.kind == kind for task in waiting)
    return total / jobs


def carry_out_all(
    tasks: Sequence[Task],
    runner: LocalJobs | ClusterJobs,
    jobs: int,
    tell: Callable[[Progress], None],
) -> list[tuple[Task, str]]:
    """Carries out what is not done yet.

    Args:
        tasks: that are wanted.
        runner: starts them.
        jobs: how many at a time.
        tell: is called whenever something changes.

    Returns:
        The tasks that failed, with the end of their logs. What needs them is not tried.
    """
    whole = each_once(tasks)
    waiting = [task for task in whole if task.result() is None]
    finished = [task for task in whole if task.result() is not None]
    failed: list[tuple[Task, str]] = []
    active: list[tuple[Task, Job]] = []
    try:
        while waiting or active:
            lost = {id(task) for task, _ in failed}
            for task in [each for each in waiting if any(id(n) in lost for n in each.needs)]:
                waiting.remove(task)
                failed.append((task, 'what it needs failed'))
                lost.add(id(task))
            ready = [
                task for task in waiting if all(need.result() is not None for need in task.needs)
            ]
            for task in ready[: jobs - len(active)]:
                waiting.remove(task)
                task.write()
                active.append((task, runner.start(task.folder)))
            for task, job in list(active):
                if not job.done():
                    continue
                active.remove((task, job))
                if task.result() is None:
                    failed.append((task, end_of_log(task.folder)))
                else:
                    finished.append(task)
            left = [*waiting, *(task for task, _ in active)]
            tell(
                Progress(
                    len(finished),
                    len(whole),
                    seconds_left(left, finished, jobs),
                    [task.title for task, _ in active],
                )
            )
            if active:
                time.sleep(POLL_SECONDS)
    finally:
        for _, job in active:
            job.cancel()
    return failed


def end_of_log(folder: Path) -> str:
    """The last lines of what a task printed."""
    log = folder / 'train.log'
    lines = log.read_text(errors='replace').splitlines() if log.exists() else []
    return '\n'.join([*lines[-12:], f'Log: {log}'])

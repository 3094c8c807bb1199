"""The first call of a compiled loop: once a machine, and said in one line."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable

import torch

# Loops, and the dtypes for which they were called.
ready: set[tuple[Callable, torch.dtype]] = set()


class FirstCalls:
    """Compiles or loads loops that a process has not called yet, until it is closed.

    Processes that start together, as the ranks of a training do, wait for the first of them and
    load what it has compiled. In the end one line says how long compiling took.
    """

    seconds = 0.0
    is_kept = False
    lock: contextlib.ExitStack | None = None

    def close(self) -> None:
        """Lets other processes go on, and says what was compiled."""
        if self.lock:
            self.lock.close()
        if self.seconds:
            where = (
                'other processes of this machine will find the code on the disk'
                if self.is_kept
                else 'no folder can be written to, so each process does that anew: '
                'NUMBA_CACHE_DIR may name one'
            )
            logging.getLogger('mmkendall').warning(
                'The CPU loops of the ranking loss were compiled, which took %.1f s; %s.',
                *(self.seconds, where),
            )

    def make(self, run: Callable, *arguments: object) -> None:
        """Gets a loop ready by calling it.

        Args:
            run: a function that Numba compiles.
            arguments: what it is called with.
        """
        if self.lock is None:
            self.lock = _hold(run.stats.cache_path)
        started, misses = time.perf_counter(), run.stats.cache_misses.copy()
        run(*arguments)
        if run.stats.cache_misses != misses:
            self.seconds += time.perf_counter() - started
            self.is_kept = run.stats.cache_path is not None


def _hold(folder: str | None) -> contextlib.ExitStack:
    """The lock of a folder, or nothing where there is no such folder or no such lock."""
    lock = contextlib.ExitStack()
    with contextlib.suppress(ImportError, OSError, TypeError):
        import fcntl

        os.makedirs(folder, exist_ok=True)
        file = os.open(os.path.join(folder, 'compiling.lock'), os.O_CREAT | os.O_WRONLY)
        lock.callback(os.close, file)
        fcntl.flock(file, fcntl.LOCK_EX)
    return lock

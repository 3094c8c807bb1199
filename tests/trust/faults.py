"""Hooks that do to a training what happens to one: a NaN, a signal, a full disk."""

from __future__ import annotations

import os
import resource
import signal

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module(force=True)
class Fault(Hook):
    """At the start of an iteration, counted from 0, one of these happens.

    Args:
        kind: ``'nan'`` puts a NaN into the batch, ``'sigterm'`` and ``'ctrl-c'`` send a signal,
            ``'full'`` lets no file become larger than 60 kB.
        at: the iterations.
        rank: the process that it happens to.
    """

    priority = 'VERY_LOW'

    def __init__(self, kind: str, at: list[int], rank: int = 0) -> None:
        self.kind = kind
        self.at = at
        self.rank = rank

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if runner.iter not in self.at or get_rank() != self.rank:
            return
        if self.kind == 'nan':
            data_batch['inputs'] = [image.float() for image in data_batch['inputs']]
            data_batch['inputs'][0].fill_(float('nan'))
        elif self.kind == 'sigterm':
            os.kill(os.getpid(), signal.SIGTERM)
        elif self.kind == 'ctrl-c':
            # A job in a shell's background, as a test run may be, is told to ignore it.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.kill(os.getpid(), signal.SIGINT)
        elif self.kind == 'full':
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))

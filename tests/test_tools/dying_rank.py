"""A hook for tests: one process ends in the middle of a training, and how."""

from __future__ import annotations

import os
import signal

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class DyingRank(Hook):
    """Ends process 1 at an iteration: ``'kill'`` as the kernel does, ``'raise'`` as a bug does."""

    def __init__(self, how: str, iteration: int = 2) -> None:
        self.how = how
        self.iteration = iteration

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if get_rank() != 1 or runner.iter != self.iteration:
            return
        if self.how == 'kill':
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError('the disk of process 1 is gone')

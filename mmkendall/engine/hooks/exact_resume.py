from __future__ import annotations

import bisect
from typing import Any

import torch
from mmengine.dist import all_gather_object, all_reduce, barrier, get_world_size
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import IterBasedTrainLoop, Runner

from mmkendall.engine.hooks.atomic_checkpoint import AtomicCheckpointHook
from mmkendall.engine.hooks.finite_loss import optim_wrappers, unwrap
from mmkendall.engine.random_states import current_states, restore_states
from mmkendall.engine.rest_of_data import RestOfEpoch, SkippingIterator
from mmkendall.engine.resume_checks import (
    LENGTH,
    TERMS,
    check_epoch_length,
    check_resumable,
    distill_terms,
    epoch_length,
    warn_of_kept_settings,
)
from mmkendall.engine.stop_request import Terminated, stop_is_requested
from mmkendall.engine.worker_seeds import give_own_generator, seed_persistent_workers
from mmkendall.registry import HOOKS

# Keys in a checkpoint, and in its meta.
STATES = 'random_states'
VALIDATED = 'validated'
# Iterations after which several processes agree whether to stop.
STOP_INTERVAL = 10


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Makes a resumed training the one that was not interrupted, to the bit.

    mmengine keeps weights, averages, optimizer, schedules and the scaler of mixed precision, and
    derives the order of the images from seed and epoch. This hook adds what it leaves out:

    - The states of Python's, NumPy's and torch's random generators, of every process, are kept in
      the checkpoint and put back: random augmentation, dropout and the like go on where they were.
    - A validation that was due when the checkpoint was saved, and that it therefore does not know
      of, is run first. Otherwise the best checkpoint and a schedule that follows a metric miss it.
    - A training goes on at the image where it stopped, also in the middle of an epoch, which
      mmengine starts again. Without worker processes the images before it are skipped without
      being loaded. With them they are loaded once more, which brings the random generators of the
      workers into the states in which they were.
    - Persistent workers get new seeds at each epoch, derived from the run's seed, the epoch, the
      process and the worker: mmengine seeds them once, and their state is out of reach of a
      checkpoint. Other workers are started, and seeded by mmengine, at each epoch.
    - The terms of distillation are kept. A training that is resumed with others is refused.
      Settings of the optimizer and of schedules are the checkpoint's, as mmengine loads them;
      where the config has others, a warning says so.

    It is not equal, and a warning says so, when the number of processes differs, or when a
    checkpoint was saved between two iterations whose gradients are accumulated. Where a
    transform has a generator of its own, or an accelerator computes in an order that varies
    (``randomness.deterministic=True`` forbids that), nothing can be said.

    After SIGTERM, in a run by tools/train.py, the iteration is finished, a checkpoint is saved by
    an ``AtomicCheckpointHook``, and the run ends.

    A term that is not computed any more, after mmrazor's ``StopDistillHook``, leaves the log.

    Raises:
        ConfigError: a checkpoint to resume from that is not one of a training, such as the best,
            which has no optimizer, or whose terms of distillation are others, or whose epochs
            were of another length while a schedule counts iterations.

    Example::

        default_hooks = dict(exact_resume=dict(type='mmkendall.ExactResumeHook'))
    """

    # After the hooks that a validation needs to be ready.
    priority = 'LOWEST'

    def __init__(self) -> None:
        self.loaded: dict[str, Any] | None = None
        self.gathered: list[dict] | None = None
        self.terms: dict[str, dict] | None = None
        self.validated = -1
        self.is_training = False

    def before_run(self, runner: Runner) -> None:
        """Notes the terms before a schedule changes their weights."""
        self.terms = distill_terms(unwrap(runner.model))

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Checks that the run that was stopped is this one."""
        if runner._resume:
            if self.terms is None:  # runner.resume() before runner.train().
                self.before_run(runner)
            check_resumable(checkpoint, self.terms, isinstance(runner, Runner))
            check_epoch_length(checkpoint['meta'].get(LENGTH), runner)
            warn_of_kept_settings(checkpoint, runner)
            self.loaded = {'states': checkpoint.get(STATES), **checkpoint['meta']}

    def before_train(self, runner: Runner) -> None:
        """Goes on where the checkpoint was saved."""
        self.is_training = True
        loop = runner.train_loop
        if not isinstance(loop, IterBasedTrainLoop):
            seed_persistent_workers(loop.dataloader, runner.seed)
        for each in (loop, runner.val_loop):
            give_own_generator(getattr(each, 'dataloader', None), runner.seed)
        if self.loaded is None:
            return
        restore_states(self.loaded['states'])
        self.validated = self.loaded.get(VALIDATED, _progress(loop))
        same_length = self.loaded.get(LENGTH) == epoch_length(loop.dataloader)
        self.loaded = None
        if self.validated != _progress(loop) and _validation_is_due(runner):
            runner.logger.info('The validation that was due at the checkpoint is run first.')
            runner.val_loop.run()
        if isinstance(loop, IterBasedTrainLoop):
            if loop.iter:
                loop.dataloader_iterator = SkippingIterator(
                    loop.dataloader_iterator, loop.dataloader, loop.iter
                )
            return
        # With another batch size the iterations so far say nothing about the place in the epoch.
        done = loop.iter - loop.epoch * len(loop.dataloader) if same_length else 0
        if 0 < done <= len(loop.dataloader):
            loop.dataloader = RestOfEpoch(loop.dataloader, done)

    def before_train_epoch(self, runner: Runner) -> None:
        """Tells persistent workers which epoch it is."""
        epoch = getattr(runner.train_loop.dataloader, 'epoch_of_workers', None)
        if epoch is not None:
            epoch.value = runner.epoch

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs: dict | None = None
    ) -> None:
        """Ends a run that was asked to; takes terms out of the log that are not computed now."""
        if outputs:  # A step that was skipped has none.
            scalars = runner.message_hub.log_scalars
            for key in [key for key in scalars if key.startswith('train/distill.')]:
                if key.removeprefix('train/') not in outputs:
                    del scalars[key]
                    runner.message_hub._resumed_keys.pop(key, None)
        if self._must_stop(runner):
            for hook in runner.hooks:
                if isinstance(hook, AtomicCheckpointHook):
                    hook.save_now(runner)
                    break
            # A process that ended before the first one has saved would have it killed.
            barrier()
            raise Terminated

    def _must_stop(self, runner: Runner) -> bool:
        """Whether a process was asked to stop, at an iteration that ends a step of the optimizer.

        Several processes agree on it at every tenth iteration.
        """
        if get_world_size() == 1 and not stop_is_requested():
            return False
        if get_world_size() > 1 and (runner.iter + 1) % STOP_INTERVAL:
            return False
        wrappers = optim_wrappers(runner.optim_wrapper)
        if not all(w.should_update() for w in wrappers if isinstance(w, OptimWrapper)):
            return False
        asked = torch.tensor(int(stop_is_requested()))
        all_reduce(asked, 'max')
        return bool(asked)

    def after_train_epoch(self, runner: Runner) -> None:
        """Gives the loop its dataloader again."""
        loader = getattr(runner.train_loop, 'dataloader', None)
        if isinstance(loader, RestOfEpoch):
            runner.train_loop.dataloader = loader.whole

    def before_val(self, runner: Runner) -> None:
        """Notes the validation, whose outcome is in whatever is saved after it."""
        if self.is_training:
            self.validated = _progress(runner.train_loop)

    def after_train(self, runner: Runner) -> None:
        """A validation from now on is none of the training."""
        self.is_training = False

    def before_saving_on_all_ranks(self, runner: Runner) -> None:
        """Gathers the states of all processes, of which only the first one saves."""
        self.gathered = all_gather_object(current_states())

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Puts into the checkpoint what a resumed run needs."""
        checkpoint[STATES] = self.gathered or [current_states()]
        checkpoint['meta'][TERMS] = self.terms
        checkpoint['meta'][VALIDATED] = self.validated
        checkpoint['meta'][LENGTH] = epoch_length(runner.train_loop.dataloader)
        self.gathered = None


def _progress(loop) -> int:
    """What the loop counts its validations by."""
    return loop.iter if isinstance(loop, IterBasedTrainLoop) else loop.epoch


def _validation_is_due(runner: Runner) -> bool:
    """Whether the loop would have validated next, as mmengine's loops decide it."""
    loop = runner.train_loop
    if runner.val_loop is None or not hasattr(loop, '_decide_current_val_interval'):
        return False
    progress = _progress(loop)
    end = loop.max_iters if isinstance(loop, IterBasedTrainLoop) else loop.max_epochs
    step = bisect.bisect(loop.dynamic_milestones, progress + 1)
    interval = loop.dynamic_intervals[step - 1]
    return progress >= loop.val_begin and (progress % interval == 0 or progress == end)

from __future__ import annotations

import bisect
import logging
import random
from contextlib import suppress
from typing import Any

import numpy as np
import torch
import torch.multiprocessing as mp
from mmengine.dist import all_gather_object, all_reduce, barrier, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.runner import IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from mmkendall.engine.hooks.atomic_checkpoint import AtomicCheckpointHook
from mmkendall.engine.hooks.finite_loss import optim_wrappers, unwrap
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
      mmengine starts again. Without worker processes the order of the images is wound forward
      without loading them; with them, what was seen is loaded once more, which winds the
      generators of the workers forward too.
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
            _start_workers_by_their_own(getattr(each, 'dataloader', None), runner.seed)
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
                loop.dataloader_iterator = _WoundForward(
                    loop.dataloader_iterator, loop.dataloader, loop.iter
                )
            return
        # With another batch size the iterations so far say nothing about the place in the epoch.
        done = loop.iter - loop.epoch * len(loop.dataloader) if same_length else 0
        if 0 < done <= len(loop.dataloader):
            loop.dataloader = _RestOfEpoch(loop.dataloader, done)

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
        if isinstance(loader, _RestOfEpoch):
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


def current_states() -> dict[str, Any]:
    """The states of this process's random generators, of kinds that a checkpoint may hold."""
    name, keys, *rest = np.random.get_state()
    states = {
        'python': random.getstate(),
        'numpy': (name, torch.from_numpy(keys.astype(np.int64)), *rest),
        'torch': torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        states['cuda'] = torch.cuda.get_rng_state()
    return states


def set_states(states: dict[str, Any]) -> None:
    """Puts the random generators of this process into the states of :func:`current_states`."""
    version, words, gauss = states['python']
    random.setstate((version, tuple(words), gauss))
    name, keys, *rest = states['numpy']
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states['torch'].cpu())
    if 'cuda' in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states['cuda'].cpu())


def restore_states(states: list[dict] | None) -> None:
    """Puts the generators into this process's states of a checkpoint, or says why not."""
    if states is not None and len(states) == get_world_size():
        set_states(states[get_rank()])
        return
    why = 'holds no states of the random generators'
    if states is not None:
        why = f'was saved by {len(states)} processes, and these are {get_world_size()}'
    print_log(
        f'The checkpoint {why}: random augmentation and dropout start again from the seed, so the '
        'training will not equal one that was not interrupted',
        'current',
        logging.WARNING,
    )


def seed_persistent_workers(loader: DataLoader, seed: int) -> None:
    """Lets the persistent workers of a dataloader have seeds of their own at each epoch.

    Those of the first epoch stay mmengine's. The epoch is told through
    ``loader.epoch_of_workers.value``.

    Args:
        loader: a dataloader whose workers have not been started; without persistent ones, it
            stays as it is.
        seed: the seed of the run.
    """
    if not getattr(loader, 'persistent_workers', False) or not loader.num_workers:
        return
    loader.epoch_of_workers = mp.get_context().Value('q', 0)
    loader.worker_init_fn = _SeedEachEpoch(
        loader.worker_init_fn, seed, get_rank(), loader.epoch_of_workers
    )


def _start_workers_by_their_own(loader: DataLoader | None, seed: int) -> None:
    """Keeps the start of persistent workers, once in a process, from the global generator.

    torch draws a number for it, and a resumed run starts them once more.
    """
    if getattr(loader, 'persistent_workers', False) and loader.generator is None:
        loader.generator = torch.Generator().manual_seed(seed)


class _SeedEachEpoch:
    """A ``worker_init_fn``: it reaches the worker's own copy of the dataset."""

    def __init__(self, first, seed: int, rank: int, epoch) -> None:
        self.first = first
        self.seed = seed
        self.rank = rank
        self.epoch = epoch

    def __call__(self, worker_id: int) -> None:
        if self.first is not None:
            self.first(worker_id)
        self.worker_id = worker_id
        self.seeded = 0
        dataset = get_worker_info().dataset
        kind = type(dataset)

        def seeding(name: str):
            def get(dataset, index):
                self.seed_once()
                return getattr(kind, name)(dataset, index)

            return get

        names = [name for name in ('__getitem__', '__getitems__') if hasattr(kind, name)]
        with suppress(TypeError):  # A class that is not written in Python stays as it is.
            dataset.__class__ = type(
                kind.__name__, (kind,), {name: seeding(name) for name in names}
            )

    def seed_once(self) -> None:
        """Seeds the worker before the first sample of an epoch."""
        epoch = self.epoch.value
        if epoch == self.seeded:
            return
        self.seeded = epoch
        key = np.random.SeedSequence((self.seed, self.rank, self.worker_id, epoch))
        words = [int(word) for word in key.generate_state(3)]
        random.seed(words[0])
        np.random.seed(words[1])
        torch.manual_seed(words[2])


class _RestOfEpoch:
    """A dataloader that first goes on from the middle of its epoch."""

    def __init__(self, whole: DataLoader, done: int) -> None:
        self.whole = whole
        self.done = done
        self.states = current_states()

    def __getattr__(self, name: str):
        return getattr(self.whole, name)

    def __len__(self) -> int:
        return len(self.whole)

    def __iter__(self):
        batches = iter(self.whole)
        for _ in range(self.done):
            if _loads_lazily(self.whole):
                batches._next_index()
            else:
                next(batches)
        set_states(self.states)
        yield from batches


class _WoundForward:
    """The endless iterator of an iteration-based loop, that skips what was trained on."""

    def __init__(self, batches, loader: DataLoader, done: int) -> None:
        self.batches = batches
        self.lazy = _loads_lazily(loader)
        self.left = done
        self.states = current_states()

    def __iter__(self):
        return self

    def __next__(self):
        if not self.left:
            return next(self.batches)
        self.left -= 1
        batch = self._next_indices() if self.lazy else next(self.batches)
        if not self.left:
            set_states(self.states)
        return batch

    def _next_indices(self) -> list[int]:
        """The next batch as its indices; at the end of the data, what mmengine does there."""
        batches = self.batches
        try:
            return batches._iterator._next_index()
        except StopIteration:
            batches._epoch += 1
            loader = batches._dataloader
            for sampler in (loader.sampler, getattr(loader.batch_sampler, 'sampler', None)):
                if hasattr(sampler, 'set_epoch'):
                    sampler.set_epoch(batches._epoch)
                    break
            batches._iterator = iter(loader)
            return batches._iterator._next_index()


def _loads_lazily(loader: DataLoader) -> bool:
    """Whether a batch can be passed over by its indices alone."""
    return loader.num_workers == 0 and not isinstance(loader.dataset, IterableDataset)


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

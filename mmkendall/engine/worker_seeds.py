"""Seeds of a dataloader's persistent workers, whose states are out of reach of a checkpoint."""

from __future__ import annotations

import random
from contextlib import suppress

import numpy as np
import torch
import torch.multiprocessing as mp
from mmengine.dist import get_rank
from torch.utils.data import DataLoader, get_worker_info


def seed_persistent_workers(loader: DataLoader, seed: int) -> None:
    """Seeds the persistent workers of a dataloader anew at each epoch but the first.

    In the first epoch they have mmengine's seeds. Who starts an epoch sets
    ``loader.epoch_of_workers.value`` to its number.

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


def give_own_generator(loader: DataLoader | None, seed: int) -> None:
    """Gives a dataloader with persistent workers a random generator of its own.

    torch draws a number as it starts the workers, from the global generator if the dataloader has
    none. A resumed run starts them once more, and its global generator would be one number ahead.
    """
    if getattr(loader, 'persistent_workers', False) and loader.generator is None:
        loader.generator = torch.Generator().manual_seed(seed)


class _SeedEachEpoch:
    """A ``worker_init_fn``, which is called in the worker, with the worker's copy of the dataset.

    It has the dataset look at the number of the epoch before each sample, as nothing else of ours
    runs in a worker that lives through all epochs.
    """

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

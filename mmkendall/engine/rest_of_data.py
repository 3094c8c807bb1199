"""Dataloaders that go on at the batch where a training stopped, with the random states of then."""

from __future__ import annotations

from torch.utils.data import DataLoader, IterableDataset

from mmkendall.engine.random_states import current_states, set_states


class RestOfEpoch:
    """A dataloader whose next epoch begins in the middle, where a training stopped.

    Skipping draws random numbers, so the generators are put back into their states afterwards.

    Args:
        whole: the dataloader of the loop, to which everything else is left.
        done: how many of the epoch's batches were trained on.
    """

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


class SkippingIterator:
    """The endless iterator of an iteration-based loop, which skips what was trained on before.

    Args:
        batches: the iterator of mmengine's loop.
        loader: its dataloader.
        done: how many batches were trained on.
    """

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

"""The same augmented image for the same sample and view, in every process and every run."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import numpy as np
import torch
from mmengine.dataset import DefaultSampler

from mmkendall.class_names import class_names, names_checksum
from mmkendall.registry import DATA_SAMPLERS, DATASETS


@DATASETS.register_module()
class NumberedRows:
    """A dataset whose every image has a number, its row, and is the same whenever it is read.

    That is what teacher logits on disk need. Each data sample has ``view_row``, the row,
    ``view_crc``, the CRC-32 of its image, and ``view_classes``, that of the names of the classes
    (None if the data set names none). :class:`FixedViews` makes one of any dataset.

    Attributes:
        num_views: views of each sample; row ``view * samples + index`` is one of them.
        seed: of what is random in the images.
    """

    num_views: int
    seed: int

    @cached_property
    def classes_checksum(self) -> int | None:
        """CRC-32 of the names of the classes in their order; None if there are none."""
        return names_checksum(class_names(self.metainfo))

    @property
    def num_rows(self) -> int:
        """All views of all samples."""
        return self.num_views * len(self)

    def all_rows(self) -> NumberedRows:
        """The dataset with every row, for the logits of a teacher; itself if none is left out."""
        return self


@DATASETS.register_module()
class FixedViews(NumberedRows):
    """A dataset with a fixed number of augmented views of each sample, each repeatable.

    Any other dataset augments with whatever state the random generators are in. This one seeds
    Python's ``random``, NumPy's and torch's global generators from (seed, view, index) before it
    asks the wrapped dataset for a sample, and puts their states back afterwards. Row
    ``view * len(dataset) + index`` is therefore one fixed image, whatever the order, the number of
    workers and processes, or the epoch at which a run was resumed. A transform with a generator
    of its own is out of reach; teacher logits that were cached notice it by the image's checksum.

    Its length is that of the wrapped dataset, so an epoch stays an epoch;
    :class:`ViewSampler` moves on to the next view with each epoch, any other sampler stays at
    the first. Each data sample gets ``view_row``, ``view_crc``, the CRC-32 of its image, and
    ``view_classes``, that of the names of the classes (None if the data set names none).

    Args:
        dataset: the dataset to wrap, or its config. Its samples must be dicts with ``inputs``, a
            tensor, and ``data_samples``, as mmpretrain's ``PackInputs`` makes them.
        num_views: views per sample, 1 or more. Defaults to 1.
        seed: of the augmentation, 0 or more. Defaults to 0.

    Raises:
        ValueError: ``num_views`` or ``seed`` is out of range.
        IndexError: a row that is not there.
        TypeError: a sample whose ``inputs`` are no tensor.

    Example:
        ::

            train_dataloader = dict(
                dataset=dict(
                    type='mmkendall.FixedViews', num_views=4, seed=0, dataset=dict(type=...)),
                sampler=dict(type='mmkendall.ViewSampler', shuffle=True))
    """

    def __init__(self, dataset: dict, num_views: int = 1, seed: int = 0) -> None:
        for name, value, least in (('num_views', num_views, 1), ('seed', seed, 0)):
            if not isinstance(value, int) or value < least:
                raise ValueError(f'{name} must be an integer of {least} or more, got {value!r}')
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        self.num_views = num_views
        self.seed = seed

    @property
    def metainfo(self) -> dict:
        """That of the wrapped dataset."""
        return getattr(self.dataset, 'metainfo', {})

    def full_init(self) -> None:
        """Lets the wrapped dataset read its annotations."""
        self.dataset.full_init()

    def get_data_info(self, row: int) -> dict:
        """The annotation of a row, from the wrapped dataset."""
        return self.dataset.get_data_info(row % len(self))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> dict:
        if not 0 <= row < self.num_rows:
            raise IndexError(
                f'row {row} of {self.num_rows} ({self.num_views} views of {len(self)} samples)'
            )
        view, index = divmod(row, len(self))
        with seeded(self.seed, view, index):
            data = self.dataset[index]
        inputs = data['inputs']
        if not isinstance(inputs, torch.Tensor):
            raise TypeError(
                "FixedViews needs samples whose 'inputs' are one tensor, got "
                f'{type(inputs).__name__}'
            )
        crc = zlib.crc32(np.ascontiguousarray(inputs.numpy()))
        data['data_samples'].set_metainfo(
            {'view_row': row, 'view_crc': crc, 'view_classes': self.classes_checksum}
        )
        return data


@DATA_SAMPLERS.register_module()
class ViewSampler(DefaultSampler):
    """mmengine's ``DefaultSampler``, at one view of a :class:`FixedViews` each epoch.

    Epoch e shows view e modulo ``num_views``. The epoch comes from mmengine's
    ``DistSamplerSeedHook``, which is among the default hooks; a resumed run goes on at its view.

    Args:
        dataset: a :class:`FixedViews`.
        **kwargs: ``shuffle``, ``seed`` and ``round_up`` of ``DefaultSampler``.

    Raises:
        TypeError: the dataset is another.

    Example:
        ::

            train_dataloader = dict(sampler=dict(type='mmkendall.ViewSampler', shuffle=True))
    """

    def __init__(self, dataset: FixedViews, **kwargs) -> None:
        if not isinstance(dataset, FixedViews):
            raise TypeError(
                'mmkendall.ViewSampler needs the dataset mmkendall.FixedViews, got '
                f'{type(dataset).__name__}'
            )
        super().__init__(dataset, **kwargs)

    def __iter__(self) -> Iterator[int]:
        first = self.epoch % self.dataset.num_views * len(self.dataset)
        order = super().__iter__()
        return (first + index for index in order)


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Seeds the global generators of the CPU from a key, and restores them in the end."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    words = [int(word) for word in np.random.SeedSequence(key).generate_state(3)]
    random.seed(words[0])
    np.random.seed(words[1])
    # torch.manual_seed would seed every accelerator too, for good.
    torch.default_generator.manual_seed(words[2])
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])

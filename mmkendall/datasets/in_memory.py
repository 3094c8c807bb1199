"""Small images that stay in memory as one tensor, and what studies do to them."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmkendall.datasets.fixed_views import NumberedRows
from mmkendall.registry import FUNCTIONS

# What is of each data sample its own, beside the label.
COLUMNS = ('sample_idx', 'group', 'view_row', 'view_crc')


class Source(NamedTuple):
    """What a dataset in memory is made of.

    Args:
        images: uint8 (N, V, H, W), V views of each of N images.
        labels: int64 (N,).
        groups: int64 (N,), the number of the group that an image belongs to.
        faces: int64 (N,), the number of the face, or whatever images share, from 0.
        classes: their names.
        seed: of what is random in the images.
    """

    images: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    faces: np.ndarray
    classes: tuple[str, ...]
    seed: int


class InMemory(NumberedRows, ABC):
    """A dataset of small images in one tensor; each view is a sample of its own.

    A pipeline costs a network of 50,000 parameters many times its own work. This has none: a
    sample is ``inputs``, uint8 (1, H, W), and ``data_samples`` with ``gt_label``, ``sample_idx``,
    ``group`` (of look-alikes), and what teacher logits on disk need. Use it with
    ``collate_fn=dict(type='mmkendall.stack_batch')`` and
    ``data_preprocessor=dict(type='mmkendall.StackedDataPreprocessor')``; with mmengine's and
    mmpretrain's own it gives the same, more slowly.

    The options are applied in the order in which they stand below. Rows keep the number that they
    have without options, so that teacher logits on disk serve all of them.

    Args:
        num_views: of each image, 1 or more. Defaults to None, all that there are.
        num_faces: so many, drawn with the seed. Defaults to None, all.
        leave_out_classes: names of classes without images, or how many to draw with the seed. They
            stay classes. Defaults to 0.
        long_tail: how many times as many images the first class has as the last, in an order drawn
            with the seed, and falling by the same factor from class to class; 1 or more. Defaults
            to 1.
        wrong_labels: share of the images whose label is another of the classes with images, drawn
            with the seed, from 0 to 1. All views of an image have the same. Defaults to 0.
        labels: False leaves ``gt_label`` out of the samples. Defaults to True.
        seed: of these options. Defaults to 0.

    Attributes:
        images: uint8 (samples, 1, H, W).
        labels: int64 (samples,), with wrong ones.
        true_labels: int64 (samples,), without.
        groups: int64 (samples,).
        left_out_classes: the numbers of the classes without images.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(
        self,
        num_views: int | None = None,
        num_faces: int | None = None,
        leave_out_classes: int | Sequence[str] = 0,
        long_tail: float = 1,
        wrong_labels: float = 0,
        labels: bool = True,
        seed: int = 0,
    ) -> None:
        source = self.load()
        self.source = source
        self.metainfo = {'classes': source.classes}
        self.seed = source.seed
        self.num_views = 1  # An epoch shows all views.
        self.with_labels = labels
        _check_integer('seed', seed, 0)
        self._option_seed = seed
        available = source.images.shape[1]
        views = available if num_views is None else num_views
        _check_integer('num_views', views, 1, available)

        kept = self._of_faces(num_faces)
        kept &= self._of_classes(leave_out_classes)
        kept &= self._of_long_tail(long_tail, kept)
        index = np.flatnonzero(kept)
        wrong = self._wrong_labels(wrong_labels, index)
        count = len(source.labels)
        # Row view * images + image, view by view.
        rows = (np.arange(views)[:, None] * count + index).ravel()
        flat = source.images[index, :views].swapaxes(0, 1).reshape(-1, 1, *source.images.shape[2:])
        self.images = torch.from_numpy(np.ascontiguousarray(flat))
        self.labels = torch.from_numpy(np.tile(wrong, views))
        self.true_labels = torch.from_numpy(np.tile(source.labels[index], views))
        self.groups = torch.from_numpy(np.tile(source.groups[index], views))
        self.rows = rows

    @abstractmethod
    def load(self) -> Source:
        """Reads the images."""

    @property
    def changed_labels(self) -> Tensor:
        """Bool (samples,), True for each sample that has a wrong label."""
        return self.labels != self.true_labels

    @abstractmethod
    def all_rows(self) -> InMemory:
        """The dataset without options that leave images out."""

    @property
    def num_rows(self) -> int:
        """All views of all images, of those that the options leave, too."""
        return int(np.prod(self.source.images.shape[:2]))

    def full_init(self) -> None:
        """Nothing is left to be read."""

    def get_data_info(self, index: int) -> dict[str, Any]:
        """The number, label and group of a sample."""
        info = {'sample_idx': index, 'group': int(self.groups[index])}
        if self.with_labels:
            info['gt_label'] = int(self.labels[index])
        return info

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f'sample {index} of {len(self)}')
        return {'inputs': self.images[index], 'data_samples': self._make_sample(index)}

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """What torch 2 asks for a batch; the same as ``__getitem__`` one by one."""
        images = self.images[torch.as_tensor(indices)].unbind()
        make = self._make_sample
        return [
            {'inputs': image, 'data_samples': make(index)}
            for image, index in zip(images, indices, strict=True)
        ]

    @cached_property
    def _make_sample(self) -> Callable[[int], Any]:
        """Makes the data sample of an image.

        It is a new one each time, as what a batch does to one must not be there in the next epoch.
        Through the methods of a data sample that takes ten times as long as through its
        attributes, among which two sets hold the names of its fields.
        """
        from mmpretrain.structures import DataSample

        prototype = DataSample(metainfo=dict.fromkeys(COLUMNS))
        prototype.set_metainfo({'view_classes': self.classes_checksum})
        if self.with_labels:
            prototype.set_gt_label(0)
        shared = vars(prototype)
        sets = [(name, value) for name, value in shared.items() if isinstance(value, set)]
        groups, rows = self.groups.tolist(), self.rows.tolist()
        crcs = list(map(zlib.crc32, self.images.numpy()))
        (label,) = [name for name in shared if name.endswith('gt_label')] or [None]
        # Copies: a view would be written with all labels wherever a sample is.
        labels = [label.clone() for label in self.labels[:, None]]

        def make(index: int) -> DataSample:
            sample = DataSample.__new__(DataSample)
            attributes = vars(sample)
            attributes.update(shared)
            for name, value in sets:
                attributes[name] = value.copy()
            attributes['sample_idx'] = index
            attributes['group'] = groups[index]
            attributes['view_row'] = rows[index]
            attributes['view_crc'] = crcs[index]
            if label is not None:
                attributes[label] = labels[index]
            return sample

        return make

    def _draws(self, option: str) -> np.random.Generator:
        """Of each option its own, so that one does not change what another draws."""
        return np.random.default_rng([self._option_seed, zlib.crc32(option.encode())])

    def _of_faces(self, number: int | None) -> np.ndarray:
        faces = self.source.faces
        available = int(faces.max()) + 1
        if number is None:
            return np.ones(len(faces), bool)
        _check_integer('num_faces', number, 1, available)
        return np.isin(faces, self._draws('num_faces').permutation(available)[:number])

    def _of_classes(self, left_out: int | Sequence[str]) -> np.ndarray:
        classes = self.source.classes
        if isinstance(left_out, int):
            _check_integer('leave_out_classes', left_out, 0, len(classes) - 1)
            drawn = self._draws('leave_out_classes').permutation(len(classes))[:left_out]
            self.left_out_classes = sorted(drawn.tolist())
        else:
            unknown = [name for name in left_out if name not in classes]
            if unknown or isinstance(left_out, str) or len({*left_out}) >= len(classes):
                raise ValueError(
                    f'leave_out_classes must be a number or a list of some of the {len(classes)} '
                    f'names of classes, got {left_out!r}'
                    + (f' with {unknown[0]!r}, which is none' if unknown else '')
                )
            self.left_out_classes = sorted(classes.index(name) for name in {*left_out})
        return ~np.isin(self.source.labels, self.left_out_classes)

    def _of_long_tail(self, ratio: float, kept: np.ndarray) -> np.ndarray:
        if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not ratio >= 1:
            raise ValueError(f'long_tail must be a number of 1 or more, got {ratio!r}')
        labels = self.source.labels
        if ratio == 1:
            return np.ones(len(labels), bool)
        draws = self._draws('long_tail')
        present = draws.permutation(np.unique(labels[kept]))
        chosen = np.zeros(len(labels), bool)
        for place, label in enumerate(present):
            index = draws.permutation(np.flatnonzero(kept & (labels == label)))
            share = ratio ** (-place / max(len(present) - 1, 1))
            chosen[index[: max(round(share * len(index)), 1)]] = True
        return chosen

    def _wrong_labels(self, share: float, index: np.ndarray) -> np.ndarray:
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
            raise ValueError(f'wrong_labels must be a share from 0 to 1, got {share!r}')
        labels = self.source.labels[index].copy()
        if share == 0:
            return labels
        draws = self._draws('wrong_labels')
        present, places = np.unique(labels, return_inverse=True)
        if len(present) < 2:
            raise ValueError('wrong_labels needs images of two classes, got those of one')
        changed = draws.permutation(len(index))[: round(share * len(index))]
        # A step of 1 to n - 1 around the circle of n classes ends at any other with equal chance.
        steps = draws.integers(1, len(present), len(changed))
        labels[changed] = present[(places[changed] + steps) % len(present)]
        return labels


@FUNCTIONS.register_module()
def stack_batch(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A collate function: ``inputs`` stacked, (N, C, H, W), and the list of ``data_samples``.

    mmengine's ``pseudo_collate`` leaves a list of images, which a data preprocessor then handles
    one by one.

    Args:
        samples: of a dataset, with images of one size.

    Example::

        train_dataloader = dict(collate_fn=dict(type='mmkendall.stack_batch'))
    """
    return {
        'inputs': torch.stack([sample['inputs'] for sample in samples]),
        'data_samples': [sample['data_samples'] for sample in samples],
    }


def _check_integer(name: str, value: Any, least: int, most: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f'{name} must be an integer of {least} or more, got {value!r}')
    if most is not None and value > most:
        raise ValueError(f'{name} must be {most} at most, as many as there are, got {value}')

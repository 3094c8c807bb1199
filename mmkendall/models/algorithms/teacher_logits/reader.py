"""Reads cached teacher logits for a training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmkendall.class_names import names_checksum
from mmkendall.models.algorithms.teacher_logits.files import (
    BUILD,
    TeacherLogitsError,
    differences,
    open_arrays,
    read_meta,
    row_checksums,
    table_of,
)


class TeacherLogits:
    """Reads cached teacher logits, each row only for the image that it was computed from.

    Args:
        folder: what ``tools/dataset_converters/cache_teacher_logits.py`` or
            ``scores_to_teacher_logits.py`` wrote.

    Raises:
        TeacherLogitsError: it is missing, unfinished or damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.meta = read_meta(self.folder)
        if self.meta is None:
            raise TeacherLogitsError(
                f'teacher_logits {str(folder)!r} holds no cached logits: build them with {BUILD}'
            )
        rows, done = self.meta['made_of']['rows'], self.meta['rows_done']
        if done < rows:
            raise TeacherLogitsError(
                f'teacher_logits {str(folder)!r} is unfinished, {done} of {rows} rows: run '
                f'{BUILD} again'
            )
        *self._values, self._crc, self._check = open_arrays(self.folder, self.meta['made_of'])

    def check_teachers(self, fingerprint: dict[str, Any]) -> None:
        """Raises TeacherLogitsError unless they were made by these teachers.

        Args:
            fingerprint: that of the model; its ``weights`` are empty where there is no teacher, as
                for a table of scores, with which there is nothing to compare.
        """
        table = table_of(self.meta['made_of'])
        if table is not None and fingerprint['weights']:
            raise TeacherLogitsError(
                f'teacher_logits {str(self.folder)!r} was made from a table of scores, {table!r}, '
                'and model.teacher is a network: set model.teacher and model.teacher_ckpt to '
                'None, or build the logits of the network with '
                'tools/dataset_converters/cache_teacher_logits.py CONFIG'
            )
        if not fingerprint['weights']:
            if table is None:
                raise TeacherLogitsError(
                    f'teacher_logits {str(self.folder)!r} was computed by a network, and '
                    'model.teacher is None: give that teacher, with which they are compared'
                )
            return
        differ = differences(self.meta['made_of']['teachers'], fingerprint)
        if differ:
            raise TeacherLogitsError(
                f'teacher_logits {str(self.folder)!r} is of another teacher. Different: '
                f'{"; ".join(differ)}'
            )

    def check_classes(self, checksum: int | None) -> None:
        """Compares the classes of the training images with those of the build.

        Args:
            checksum: ``view_classes`` of a sample of ``mmkendall.FixedViews``; None, which
                compares nothing, where its data set does not name its classes.

        Raises:
            TeacherLogitsError: the data set names its classes otherwise.
        """
        names = self.meta['made_of'].get('dataset_classes')
        if checksum is not None and names is not None and checksum != names_checksum(names):
            raise TeacherLogitsError(
                f'teacher_logits {str(self.folder)!r} was built on a data set whose classes are '
                f'{", ".join(names[:3])}, ...; those of this training have other names or another '
                'order. Bring them into the same order, or build the logits again'
            )

    def of_batch(self, data_samples: Sequence | None) -> Tensor:
        """The logits of a batch, float32 (N, teachers, classes).

        Args:
            data_samples: those of a ``mmkendall.FixedViews``.

        Raises:
            RuntimeError: of another dataset, whose images are not numbered.
            TeacherLogitsError: images or classes are other than those of the build, or the files
                are damaged.
        """
        if data_samples is None or 'view_row' not in data_samples[0]:
            raise RuntimeError(
                'teacher_logits need a training dataset of type mmkendall.FixedViews, which tells '
                'which row of the logits belongs to an image'
            )
        self.check_classes(data_samples[0].get('view_classes'))
        return self.read(
            [sample.view_row for sample in data_samples],
            [sample.view_crc for sample in data_samples],
        )

    def read(self, rows: Sequence[int], crcs: Sequence[int]) -> Tensor:
        """The logits of some rows, float32 (N, teachers, classes).

        Where only the highest were kept, the others are minus infinity: for a loss on the order
        these classes are last and tied, for one on probabilities they have none.

        Args:
            rows: ``view_row`` of each sample of the batch.
            crcs: ``view_crc`` of each.

        Raises:
            TeacherLogitsError: an image is another than the one that the teacher saw, or a row is
                not what was written.
        """
        expected = len(self._crc)
        if max(rows) >= expected:
            raise TeacherLogitsError(
                f'teacher_logits {str(self.folder)!r} has {expected} rows, the dataset asks for '
                f'row {max(rows)}: it has more samples or views than were cached'
            )
        rows = np.asarray(rows)
        wrong = np.flatnonzero(self._crc[rows] != np.asarray(crcs, dtype=np.uint32))
        if len(wrong):
            raise TeacherLogitsError(
                f'teacher_logits {str(self.folder)!r}: {len(wrong)} of {len(rows)} images of this '
                f'batch are not those that the teacher saw, first {self._name(rows[wrong[0]])}. '
                'The data, the pipeline, the seed of FixedViews or a library changed: build them '
                'again. If several FixedViews are joined, whose rows count alike, join the data '
                'sets inside of one'
            )
        values = [array[rows] for array in self._values]
        wrong = np.flatnonzero(self._check[rows] != row_checksums(values, self._crc[rows]))
        if len(wrong):
            raise TeacherLogitsError(
                f'teacher_logits {str(self.folder)!r} is damaged: {len(wrong)} of {len(rows)} '
                'rows of this batch are not what was written, first '
                f'{self._name(rows[wrong[0]])}. Remove the folder and build it again with {BUILD}'
            )
        logits = torch.from_numpy(values[0].astype(np.float32))
        if len(values) == 1:
            return logits
        ids = torch.from_numpy(values[1].astype(np.int64))
        dense = logits.new_full((*ids.shape[:2], self.meta['made_of']['classes']), -math.inf)
        return dense.scatter(2, ids, logits)

    def _name(self, row: int) -> str:
        view, index = divmod(int(row), self.meta['made_of']['samples'])
        return f'sample {index}, view {view}'


def check_unmixed(data_preprocessor: nn.Module) -> None:
    """Raises ValueError if images are mixed, which the teacher was never shown."""
    if getattr(data_preprocessor, 'batch_augments', None) is not None:
        raise ValueError(
            'teacher_logits and batch augmentation (train_cfg.augments, mixup, '
            "SwitchRecipeHook's batch_augments) exclude each other: a mixed image was never "
            'shown to the teacher'
        )

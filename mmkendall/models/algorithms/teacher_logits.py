"""Teacher logits on disk, one row per augmented view of a sample.

A folder with

``meta.json``
    What the logits were made of: :data:`FORMAT`, the data set's size, views and seed, and the
    teachers' fingerprint. Also how many rows are written, so that a stopped build goes on.
``logits.npy``
    (rows, teachers, classes), float16 or float32, read through a memory map.
``crc.npy``
    (rows,), uint32: CRC-32 of the image that each row was computed from.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

FORMAT = 1
DTYPES = ('float16', 'float32')


class TeacherLogitsError(RuntimeError):
    """Cached logits that are missing, unfinished, or of other images or another teacher."""


class TeacherLogits:
    """Reads cached teacher logits, each row only for the image that it was computed from.

    Args:
        folder: what ``tools/dataset_converters/cache_teacher_logits.py`` wrote.

    Raises:
        TeacherLogitsError: it is missing or unfinished.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.meta = read_meta(self.folder)
        if self.meta is None:
            raise TeacherLogitsError(
                f'teacher_logits {str(folder)!r} holds no cached logits: build them with '
                'tools/dataset_converters/cache_teacher_logits.py CONFIG'
            )
        rows, done = self.meta['made_of']['rows'], self.meta['rows_done']
        if done < rows:
            raise TeacherLogitsError(
                f'teacher_logits {str(folder)!r} is unfinished, {done} of {rows} rows: run '
                'tools/dataset_converters/cache_teacher_logits.py CONFIG again'
            )
        self._logits = np.load(self.folder / 'logits.npy', mmap_mode='r')
        self._crc = np.load(self.folder / 'crc.npy', mmap_mode='r')

    def check_teachers(self, fingerprint: dict[str, Any]) -> None:
        """Raises TeacherLogitsError unless they were made by these teachers."""
        differ = differences(self.meta['made_of']['teachers'], fingerprint)
        if differ:
            raise TeacherLogitsError(
                f'teacher_logits {str(self.folder)!r} is of another teacher. Different: '
                f'{"; ".join(differ)}'
            )

    def read(self, rows: Sequence[int], crcs: Sequence[int]) -> Tensor:
        """The logits of some rows, float32 (N, teachers, classes).

        Args:
            rows: ``view_row`` of each sample of the batch.
            crcs: ``view_crc`` of each.

        Raises:
            TeacherLogitsError: an image is another than the one that the teacher saw.
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
            samples = self.meta['made_of']['samples']
            view, index = divmod(int(rows[wrong[0]]), samples)
            raise TeacherLogitsError(
                f'teacher_logits {str(self.folder)!r}: {len(wrong)} of {len(rows)} images of this '
                f'batch are not those that the teacher saw, first sample {index}, view {view}. '
                'The data, the pipeline, the seed of FixedViews or a library changed: build them '
                'again'
            )
        return torch.from_numpy(self._logits[rows].astype(np.float32))


class TeacherLogitsWriter:
    """Writes cached teacher logits row by row, and goes on where an earlier build stopped.

    Args:
        folder: made if missing.
        made_of: ``rows``, ``samples``, ``views``, ``seed``, ``classes``, ``dtype`` and
            ``teachers``, the fingerprint.

    Attributes:
        rows_done: rows that are safely on disk; :meth:`append` goes on there.

    Raises:
        TeacherLogitsError: the folder holds logits that were made of something else.
    """

    def __init__(self, folder: str | Path, made_of: dict[str, Any]) -> None:
        self.folder = Path(folder)
        self.made_of = made_of
        self.folder.mkdir(parents=True, exist_ok=True)
        meta = read_meta(self.folder)
        if meta is not None:
            differ = differences(meta['made_of'], made_of)
            if differ:
                raise TeacherLogitsError(
                    f'{str(folder)!r} holds logits that were made otherwise; remove it or choose '
                    f'another folder. Different: {"; ".join(differ)}'
                )
        mode = 'w+' if meta is None else 'r+'
        shape = (made_of['rows'], len(made_of['teachers']['weights']), made_of['classes'])
        self._logits = open_memmap(self.folder / 'logits.npy', mode, made_of['dtype'], shape)
        self._crc = open_memmap(self.folder / 'crc.npy', mode, np.uint32, shape[:1])
        self.rows_done = 0 if meta is None else meta['rows_done']
        self._next = self.rows_done
        if meta is None:
            self.flush()

    def append(self, logits: Tensor, crcs: Sequence[int]) -> None:
        """Writes the next rows.

        Args:
            logits: (N, teachers, classes).
            crcs: CRC-32 of each image.

        Raises:
            TeacherLogitsError: a logit is not finite, or not in the range of the stored type.
        """
        values = logits.cpu().numpy()
        with np.errstate(over='ignore'):
            values = values.astype(self.made_of['dtype'])
        if not np.isfinite(values).all():
            raise TeacherLogitsError(
                f'row {self._next} and following: logits that are not finite as '
                f'{self.made_of["dtype"]}'
            )
        rows = slice(self._next, self._next + len(values))
        self._logits[rows] = values
        self._crc[rows] = np.asarray(crcs, dtype=np.uint32)
        self._next = rows.stop

    def flush(self) -> None:
        """Puts everything on disk, then says so in ``meta.json``."""
        self._logits.flush()
        self._crc.flush()
        self.rows_done = self._next
        meta = {'format': FORMAT, 'rows_done': self.rows_done, 'made_of': self.made_of}
        unfinished = self.folder / 'meta.json.part'
        unfinished.write_text(json.dumps(meta, indent=1))
        os.replace(unfinished, self.folder / 'meta.json')


def read_meta(folder: Path) -> dict[str, Any] | None:
    """What ``meta.json`` says, or None if there is none."""
    file = folder / 'meta.json'
    if not file.is_file():
        return None
    meta = json.loads(file.read_text())
    if meta['format'] != FORMAT:
        raise TeacherLogitsError(
            f'{str(folder)!r} is of format {meta["format"]}, this version reads {FORMAT}: build '
            'the logits again'
        )
    return meta


def differences(was: dict[str, Any], now: dict[str, Any], prefix: str = '') -> list[str]:
    """``name: was -> now`` for each value that differs, through nested dicts."""
    found = []
    for name in {**was, **now}:
        old, new = was.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, f'{prefix}{name}.')
        elif old != new:
            found.append(f'{prefix}{name}: {old} -> {new}')
    return found

"""Writes teacher logits, so that a build that is stopped goes on and a full disk is a sentence."""

from __future__ import annotations

import errno
import json
import math
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib.format import open_memmap
from torch import Tensor

from mmkendall.class_names import ClassNamesError, compare_classes
from mmkendall.models.algorithms.teacher_logits.files import (
    TeacherLogitsError,
    checksum_of,
    differences,
    format_of,
    layout,
    open_arrays,
    read_meta,
    row_checksums,
    table_of,
)
from mmkendall.whole_files import write_atomically

try:
    import fcntl
except ImportError:  # Windows has no such locks: two builds of one folder are on their own there.
    fcntl = None


class TeacherLogitsWriter:
    """Writes cached teacher logits row by row, and goes on where an earlier build stopped.

    It holds a lock on the folder until it is closed, or its process ends in any way.

    Args:
        folder: made if missing.
        made_of: ``rows``, ``samples``, ``views``, ``seed``, ``classes``, ``dtype``, ``teachers``,
            the fingerprint, and if known ``dataset_classes`` and ``teacher_classes``; ``topk``,
            where only so many logits of each row are to be kept, the highest.

    Attributes:
        rows_done: rows that are safely on disk; :meth:`append` goes on there.

    Raises:
        TeacherLogitsError: the folder holds logits that were made of something else, another
            process writes there, or the disk is full.
    """

    def __init__(self, folder: str | Path, made_of: dict[str, Any]) -> None:
        self.folder = Path(folder)
        # As it will be read: tuples are lists there.
        self.made_of = json.loads(json.dumps(made_of))
        self.rows_done = self._next = 0
        self._files: list[tuple[BinaryIO, int, np.dtype, int]] = []
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = lock(self.folder)
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        meta = read_meta(self.folder)
        if meta is None:
            try:
                self._create()
            except TeacherLogitsError:
                # What was reserved would keep the disk full.
                for name, *_ in layout(self.made_of):
                    (self.folder / name).unlink(missing_ok=True)
                raise
            return
        differ = differences(meta['made_of'], self.made_of)
        if differ:
            raise TeacherLogitsError(
                f'{str(self.folder)!r} holds logits that were made otherwise; remove it or '
                f'choose another folder. Different: {"; ".join(differ)}'
            )
        self.rows_done = self._next = meta['rows_done']
        self._open_files(open_arrays(self.folder, self.made_of))

    def _create(self) -> None:
        with self._writing():
            self._open_files(
                open_memmap(self.folder / name, 'w+', dtype, shape)
                for name, dtype, shape in layout(self.made_of)
            )
            for file, offset, _, row_bytes in self._files:
                reserve(file, offset + row_bytes * self.made_of['rows'])
        self.flush()

    def _open_files(self, arrays: Iterable[np.memmap]) -> None:
        """Opens arrays for writing as files: a memory map on a full disk kills the process."""
        for array, (name, *_) in zip(arrays, layout(self.made_of), strict=True):
            file = open(self.folder / name, 'r+b')  # noqa: SIM115
            self._files.append((file, array.offset, array.dtype, array[:1].nbytes))

    def append(self, logits: Tensor, crcs: Sequence[int]) -> None:
        """Writes the next rows.

        Args:
            logits: (N, teachers, classes).
            crcs: CRC-32 of each image.

        Raises:
            TeacherLogitsError: a logit is not finite, a minus infinity from a table apart, or not
                in the range of the stored type, or the disk is full.
        """
        given = logits.cpu().numpy()
        with np.errstate(over='ignore'):
            values = given.astype(self.made_of['dtype'])
        sound = np.isfinite(values)
        if table_of(self.made_of) is not None:
            sound |= given == -math.inf
        if not sound.all():
            raise TeacherLogitsError(
                f'row {self._next} and following: logits that are not finite as '
                f'{self.made_of["dtype"]}'
            )
        arrays = [values]
        if 'topk' in self.made_of:
            # Of the given logits: in half precision more of them are tied.
            ids = logits.cpu().topk(self.made_of['topk'], dim=-1).indices.numpy()
            of_ids = np.dtype(layout(self.made_of)[1][1])
            arrays = [np.take_along_axis(values, ids, axis=-1), ids.astype(of_ids)]
        crcs = np.asarray(crcs, dtype=np.uint32)
        with self._writing():
            for (file, offset, dtype, row_bytes), rows in zip(
                self._files, (*arrays, crcs, row_checksums(arrays, crcs)), strict=True
            ):
                file.seek(offset + self._next * row_bytes)
                file.write(np.ascontiguousarray(rows, dtype=dtype))
        self._next += len(values)

    def flush(self) -> None:
        """Puts everything on disk, then says so in ``meta.json``."""
        with self._writing():
            for file, *_ in self._files:
                file.flush()
                os.fsync(file.fileno())
            meta = {
                'format': format_of(self.made_of),
                'rows_done': self._next,
                'checksum': checksum_of(self.made_of),
                'made_of': self.made_of,
            }
            write_atomically(str(self.folder / 'meta.json'), json.dumps(meta, indent=1).encode())
        self.rows_done = self._next

    def close(self) -> None:
        """Lets another process write; what was not flushed may be lost."""
        for file, *_ in self._files:
            try:
                file.close()
            except OSError:  # The disk is full, as flush() said.
                continue
        self._lock.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns what the system says of a full disk into one sentence."""
        try:
            yield
        except OSError as error:
            size = sum(
                np.dtype(dtype).itemsize * math.prod(shape)
                for _, dtype, shape in layout(self.made_of)
            )
            raise TeacherLogitsError(
                f'{str(self.folder)!r} cannot be written: {error.strerror or error}. It needs '
                f'{size / 1e6:.1f} MB in all, and {self.rows_done} of {self.made_of["rows"]} rows '
                'are safe. Make room, or name another folder with --out, and run the command again'
            ) from error


def reserve(file: BinaryIO, size: int) -> None:
    """Takes the space of a file now, where the file system can, so that a build ends early."""
    if not hasattr(os, 'posix_fallocate'):
        return
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise


def lock(folder: Path) -> BinaryIO:
    """Keeps other processes from writing to a folder until the returned file is closed.

    The system drops the lock as the process ends, however it ends: there are no stale ones.

    Raises:
        TeacherLogitsError: another process holds it.
    """
    file = open(folder / 'lock', 'a+b')  # noqa: SIM115
    if fcntl is not None:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            file.seek(0)
            holder = file.read(200).decode(errors='replace').strip() or 'another process'
            file.close()
            raise TeacherLogitsError(
                f'{str(folder)!r} is being written by {holder}: wait until it is done, or name '
                'another folder with --out'
            ) from error
        except OSError:  # A file system without locks.
            return file
    file.truncate(0)
    file.write(f'process {os.getpid()} on {socket.gethostname()}'.encode())
    file.flush()
    return file


def check_teacher_classes(
    dataset_classes: Sequence[str] | None, teacher_classes: Sequence[Sequence[str] | None]
) -> None:
    """Raises TeacherLogitsError where a teacher numbers the classes unlike the data set."""
    for index, classes in enumerate(teacher_classes):
        try:
            compare_classes(
                f"teacher {index}'s checkpoint", classes, 'the data set', dataset_classes
            )
        except ClassNamesError as error:
            raise TeacherLogitsError(str(error)) from error

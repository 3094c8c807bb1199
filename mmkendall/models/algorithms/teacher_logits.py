"""Teacher logits on disk, one row per augmented view of a sample.

A folder with

``meta.json``
    What the logits were made of: :data:`FORMAT`, the data set's size, views, seed and classes, and
    the teachers' fingerprint and classes, with a checksum. Also how many rows are written, so that
    a stopped build goes on.
``logits.npy``
    (rows, teachers, classes), float16 or float32, read through a memory map.
``crc.npy``
    (rows,), uint32: CRC-32 of the image that each row was computed from.
``check.npy``
    (rows,), uint32: CRC-32 of each row of logits, begun with that of its image; so neither can
    change, nor rows change places.
``lock``
    Held by the process that writes.
"""

from __future__ import annotations

import errno
import json
import math
import os
import socket
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from mmkendall.class_names import ClassNamesError, compare_classes, names_checksum

try:
    import fcntl
except ImportError:  # Windows has no such locks: two builds of one folder are on their own there.
    fcntl = None

FORMAT = 2
DTYPES = ('float16', 'float32')
BUILD = 'tools/dataset_converters/cache_teacher_logits.py CONFIG'
# What made_of must say to be read at all.
NUMBERS = ('rows', 'samples', 'views', 'classes')


class TeacherLogitsError(RuntimeError):
    """Cached logits that are missing, unfinished, damaged, or of other images or teachers."""


class TeacherLogits:
    """Reads cached teacher logits, each row only for the image that it was computed from.

    Args:
        folder: what ``tools/dataset_converters/cache_teacher_logits.py`` wrote.

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
        self._logits, self._crc, self._check = open_arrays(self.folder, self.meta['made_of'])

    def check_teachers(self, fingerprint: dict[str, Any]) -> None:
        """Raises TeacherLogitsError unless they were made by these teachers."""
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

    def read(self, rows: Sequence[int], crcs: Sequence[int]) -> Tensor:
        """The logits of some rows, float32 (N, teachers, classes).

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
        values = self._logits[rows]
        wrong = np.flatnonzero(self._check[rows] != row_checksums(values, self._crc[rows]))
        if len(wrong):
            raise TeacherLogitsError(
                f'teacher_logits {str(self.folder)!r} is damaged: {len(wrong)} of {len(rows)} '
                'rows of this batch are not what was written, first '
                f'{self._name(rows[wrong[0]])}. Remove the folder and build it again with {BUILD}'
            )
        return torch.from_numpy(values.astype(np.float32))

    def _name(self, row: int) -> str:
        view, index = divmod(int(row), self.meta['made_of']['samples'])
        return f'sample {index}, view {view}'


class TeacherLogitsWriter:
    """Writes cached teacher logits row by row, and goes on where an earlier build stopped.

    It holds a lock on the folder until it is closed, or its process ends in any way.

    Args:
        folder: made if missing.
        made_of: ``rows``, ``samples``, ``views``, ``seed``, ``classes``, ``dtype``, ``teachers``,
            the fingerprint, and if known ``dataset_classes`` and ``teacher_classes``.

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
            TeacherLogitsError: a logit is not finite, or not in the range of the stored type, or
                the disk is full.
        """
        values = logits.cpu().numpy()
        with np.errstate(over='ignore'):
            values = values.astype(self.made_of['dtype'])
        if not np.isfinite(values).all():
            raise TeacherLogitsError(
                f'row {self._next} and following: logits that are not finite as '
                f'{self.made_of["dtype"]}'
            )
        crcs = np.asarray(crcs, dtype=np.uint32)
        with self._writing():
            for (file, offset, dtype, row_bytes), rows in zip(
                self._files, (values, crcs, row_checksums(values, crcs)), strict=True
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
                'format': FORMAT,
                'rows_done': self._next,
                'checksum': checksum_of(self.made_of),
                'made_of': self.made_of,
            }
            unfinished = self.folder / 'meta.json.part'
            unfinished.write_text(json.dumps(meta, indent=1))
            os.replace(unfinished, self.folder / 'meta.json')
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


def layout(made_of: dict[str, Any]) -> list[tuple[str, Any, tuple[int, ...]]]:
    """Name, type and shape of each array."""
    shape = (made_of['rows'], len(made_of['teachers']['weights']), made_of['classes'])
    return [
        ('logits.npy', made_of['dtype'], shape),
        ('crc.npy', np.uint32, shape[:1]),
        ('check.npy', np.uint32, shape[:1]),
    ]


def open_arrays(folder: Path, made_of: dict[str, Any]) -> list[np.memmap]:
    """The arrays, read through memory maps.

    Raises:
        TeacherLogitsError: one is missing, cut short, or of another shape than ``meta.json`` says.
    """
    arrays = []
    for name, dtype, shape in layout(made_of):
        try:
            array = np.load(folder / name, mmap_mode='r')
            found = array.dtype.name, array.shape
        except (OSError, ValueError, EOFError, SyntaxError) as error:
            found = str(error).splitlines()[0] if str(error) else type(error).__name__
        if found != (np.dtype(dtype).name, shape):
            raise TeacherLogitsError(
                f'teacher_logits {str(folder)!r} is damaged: {name} must hold '
                f'{np.dtype(dtype).name} of shape {shape}, as meta.json says, got {found}. Remove '
                f'the folder and build it again with {BUILD}'
            )
        arrays.append(array)
    return arrays


def row_checksums(rows: np.ndarray, crcs: np.ndarray) -> np.ndarray:
    """CRC-32 of each row, begun with that of its image."""
    rows = np.ascontiguousarray(rows)
    return np.array(
        [zlib.crc32(row, int(crc)) for row, crc in zip(rows, crcs, strict=True)], dtype=np.uint32
    )


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


def read_meta(folder: Path) -> dict[str, Any] | None:
    """What ``meta.json`` says, or None if there is none.

    Raises:
        TeacherLogitsError: it says nothing that can be relied on.
    """
    file = folder / 'meta.json'
    if not file.is_file():
        return None
    again = f'Remove the folder and build it again with {BUILD}'
    try:
        meta = json.loads(file.read_text())
        version = meta['format']
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TeacherLogitsError(
            f"{str(folder)!r} is damaged: meta.json can't be read ({type(error).__name__}: "
            f'{error}). {again}'
        ) from error
    if version != FORMAT:
        raise TeacherLogitsError(
            f'{str(folder)!r} is of format {version}, this version reads {FORMAT}: build '
            'the logits again'
        )
    made_of, done = meta.get('made_of'), meta.get('rows_done')
    sound = (
        isinstance(made_of, dict)
        and all(is_number(made_of.get(name)) for name in NUMBERS)
        and made_of.get('dtype') in DTYPES
        and isinstance(made_of.get('teachers'), dict)
        and isinstance(made_of['teachers'].get('weights'), list)
        and is_number(done)
        and done <= made_of['rows']
    )
    if not sound or meta.get('checksum') != checksum_of(made_of):
        raise TeacherLogitsError(
            f'{str(folder)!r} is damaged: meta.json does not say what was written there. {again}'
        )
    return meta


def is_number(value: Any) -> bool:
    """Whether a value of JSON can count something."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def checksum_of(value: Any) -> int:
    """CRC-32 of a value of JSON."""
    return zlib.crc32(json.dumps(value, sort_keys=True).encode())


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

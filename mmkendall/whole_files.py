"""Files that are written whole or not at all: whoever reads one finds the old or the new one."""

from __future__ import annotations

import os
import os.path as osp
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def whole_file(path: str) -> Iterator[str]:
    """Gives ``PATH.part`` to write to, which takes the place of the file at the end.

    It is put on the disk before it is renamed, so that a power cut leaves the one or the other.
    Where anything is raised inside, the part is removed, and the file that was there stays.

    Args:
        path: a local file. Its folder must be there.

    Raises:
        OSError: the file can't be put in place.
    """
    part = f'{path}.part'
    try:
        yield part
        with open(part, 'r+b') as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        if osp.exists(part):
            os.remove(part)
    _sync_folder(osp.dirname(path) or '.')


def write_atomically(
    path: str, data: bytes, fault: Callable[[str], str | None] | None = None
) -> None:
    """Writes bytes to a file, see :func:`whole_file`.

    Args:
        path: a local file. Its folder must be there.
        data: what it will hold.
        fault: says why a file that was written is not what it should be, and None if it is.
            Defaults to None, for no such check.

    Raises:
        OSError: it could not be written. What was at the path is still there.
    """
    with whole_file(path) as part:
        with open(part, 'wb') as file:
            file.write(data)
        found = fault(part) if fault is not None else None
        if found is not None:
            raise OSError(f'{path} was written, and when it was read back {found}')


def save_whole(content: dict[str, Any], path: str) -> None:
    """``torch.save`` to a file, see :func:`whole_file`.

    Raises:
        OSError: the file can't be written.
    """
    try:
        with whole_file(path) as part, open(part, 'wb') as file:
            torch.save(content, file)
    except (OSError, RuntimeError) as error:  # torch turns some of the first into the second.
        reason = getattr(error, 'strerror', None) or str(error).splitlines()[0]
        raise OSError(f'{path!r} could not be written: {reason}') from error


def _sync_folder(folder: str) -> None:
    """Puts the new name on the disk too, where the system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:  # Some network file systems have no such call for folders.
        pass
    finally:
        os.close(descriptor)

"""The files that hold teacher logits, one row per augmented view of a sample.

A folder with

``meta.json``
    What the logits were made of: the format, the data set's size, views, seed and classes, and
    the teachers' fingerprint and classes, with a checksum. In place of a network's weights the
    fingerprint may name a table of scores. Also how many rows are written, so that a stopped
    build goes on.
``logits.npy``
    (rows, teachers, classes), float16 or float32, read through a memory map. Those of a table may
    be minus infinity, for classes that are last. Where only the highest K of each row are kept,
    (rows, teachers, K), the highest first.
``ids.npy``
    Only there: (rows, teachers, K), uint16 or uint32, the class of each logit.
``crc.npy``
    (rows,), uint32: CRC-32 of the image that each row was computed from.
``check.npy``
    (rows,), uint32: CRC-32 of each row of logits and ids, begun with that of its image; so none
    can change, nor rows change places.
``lock``
    Held by the process that writes.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

# The second where only the highest logits are kept, of which versions that read the first know
# nothing.
FORMATS = (2, 3)
DTYPES = ('float16', 'float32')
BUILD = (
    'tools/dataset_converters/cache_teacher_logits.py CONFIG (of a table of scores with '
    'scores_to_teacher_logits.py CONFIG TABLE)'
)
# What made_of must say to be read at all.
NUMBERS = ('rows', 'samples', 'views', 'classes')


class TeacherLogitsError(RuntimeError):
    """Cached logits that are missing, unfinished, damaged, or of other images or teachers."""


def layout(made_of: dict[str, Any]) -> list[tuple[str, Any, tuple[int, ...]]]:
    """Name, type and shape of each array."""
    kept = made_of.get('topk', made_of['classes'])
    shape = (made_of['rows'], len(made_of['teachers']['weights']), kept)
    arrays = [('logits.npy', made_of['dtype'], shape)]
    if 'topk' in made_of:
        arrays.append(('ids.npy', np.min_scalar_type(max(made_of['classes'] - 1, 256)), shape))
    return [*arrays, ('crc.npy', np.uint32, shape[:1]), ('check.npy', np.uint32, shape[:1])]


def format_of(made_of: dict[str, Any]) -> int:
    """The format of logits that are made so."""
    return FORMATS['topk' in made_of]


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


def row_checksums(arrays: Sequence[np.ndarray], crcs: np.ndarray) -> np.ndarray:
    """CRC-32 of each row of some arrays one after the other, begun with that of its image."""
    for array in arrays:
        rows = np.ascontiguousarray(array)
        crcs = [zlib.crc32(row, int(crc)) for row, crc in zip(rows, crcs, strict=True)]
    return np.array(crcs, dtype=np.uint32)


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
    if version not in FORMATS:
        raise TeacherLogitsError(
            f'{str(folder)!r} is of format {version}, this version reads '
            f'{" and ".join(map(str, FORMATS))}: build the logits again'
        )
    made_of, done = meta.get('made_of'), meta.get('rows_done')
    sound = (
        isinstance(made_of, dict)
        and all(is_number(made_of.get(name)) for name in NUMBERS)
        and made_of.get('dtype') in DTYPES
        and isinstance(made_of.get('teachers'), dict)
        and isinstance(made_of['teachers'].get('weights'), list)
        and version == format_of(made_of)
        and ('topk' not in made_of or is_topk(made_of['topk'], made_of['classes']))
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


def is_topk(value: Any, classes: int) -> bool:
    """Whether so many of the classes can be kept, and not all."""
    return is_number(value) and 1 <= value < classes


def checksum_of(value: Any) -> int:
    """CRC-32 of a value of JSON."""
    return zlib.crc32(json.dumps(value, sort_keys=True).encode())


def table_of(made_of: dict[str, Any]) -> str | None:
    """The name of the table of scores that logits were made from; None for those of networks."""
    table = made_of['teachers'].get('table')
    return str(table.get('file')) if isinstance(table, dict) else None


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

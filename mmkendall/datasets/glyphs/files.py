"""The files of a data set of glyphs.

A folder with

``train.npy``, ``val.npy``, ``test.npy``
    uint8 (faces, classes, views, 32, 32), white on black. No face, and none that looks like it, is
    in two of them. Every view is jittered; images of validation and test have one.
``transfer_train.npy``, ``transfer_test.npy``
    The same faces as in ``train.npy`` and ``test.npy``, but of classes that those do not have.
``meta.json``
    :data:`FORMAT`, the classes and what each consists of, the faces of each part with the number
    of their group, the options and versions that it was made with, a checksum of each array, and
    ``sha256``, of all arrays together.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from mmkendall.datasets.glyphs.classes import GlyphsError
from mmkendall.whole_files import write_atomically

FORMAT = 1
SPLITS = ('train', 'val', 'test', 'transfer_train', 'transfer_test')
WRITE = 'tools/dataset_converters/letters.py FOLDER'


def faces_of(split: str) -> str:
    """The split whose faces a split is drawn in."""
    return split.removeprefix('transfer_')


def checksum(array: np.ndarray) -> int:
    """CRC-32 of the bytes of an array."""
    return zlib.crc32(np.ascontiguousarray(array))


def fingerprint(arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 of arrays by name: of names, shapes and bytes, not of a file's time."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f'{name} {arrays[name].dtype} {arrays[name].shape}\n'.encode())
        digest.update(np.ascontiguousarray(arrays[name]))
    return digest.hexdigest()


def write_folder(folder: Path, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> str:
    """Writes the arrays, ``meta.json`` last, and returns their ``fingerprint``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f'{name}.npy', array)
    whole = fingerprint(arrays)
    checksums = {name: checksum(array) for name, array in arrays.items()}
    text = json.dumps(
        {'format': FORMAT, **meta, 'checksums': checksums, 'sha256': whole},
        ensure_ascii=False,
        indent=1,
    )
    write_atomically(str(folder / 'meta.json'), text.encode())
    return whole


def read_meta(folder: Path) -> dict[str, Any]:
    """What ``meta.json`` says.

    Raises:
        GlyphsError: there is none, or it is no such file.
    """
    file = folder / 'meta.json'
    try:
        meta = json.loads(file.read_text(encoding='utf-8'))
    except FileNotFoundError as error:
        raise GlyphsError(
            f'data_root {str(folder)!r} holds no glyphs, {file.name} is missing: draw them with '
            f'{WRITE}'
        ) from error
    except (OSError, ValueError) as error:
        raise GlyphsError(f"{file} can't be read ({error}): draw the glyphs again") from error
    if not isinstance(meta, dict) or meta.get('format') != FORMAT:
        raise GlyphsError(f'{file} must be of format {FORMAT}: draw the glyphs again with {WRITE}')
    return meta


def read_split(folder: Path, meta: dict[str, Any], split: str) -> np.ndarray:
    """The images of a split, uint8 (faces, classes, views, 32, 32).

    Raises:
        GlyphsError: it is missing, or is not what was written.
    """
    file = folder / f'{split}.npy'
    try:
        images = np.load(file, allow_pickle=False)
        found = checksum(images)
    except (OSError, ValueError, EOFError) as error:
        raise GlyphsError(f"{file} can't be read ({error}): draw the glyphs again") from error
    classes = meta['transfer_classes' if split.startswith('transfer') else 'classes']
    shape = (len(meta['faces'][faces_of(split)]), len(classes))
    if images.dtype != np.uint8 or images.shape[:2] != shape or found != meta['checksums'][split]:
        raise GlyphsError(
            f'{file} is not what meta.json says was written there: draw the glyphs again'
        )
    return images

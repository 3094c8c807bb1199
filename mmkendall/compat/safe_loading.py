"""Reads checkpoints and pickles without running what is in them. No mend: the reader for all.

A pickle may call any function by its name. What is read here may name only what is listed here:
plain containers, dates, paths, numpy's arrays and scalars, torch's tensors, mmengine's configs,
data elements and statistics. torch's own ``weights_only`` refuses some of these (a ``deque``, a
``defaultdict`` that is not empty), and before torch 2.6 it knows too little to read a checkpoint
of mmengine at all; so what torch refuses is read a second time, by the same list.
"""

from __future__ import annotations

import argparse
import codecs
import collections
import datetime
import errno
import io
import os
import pathlib
import pickle
import sys
import types
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from importlib import import_module
from typing import Any, BinaryIO

import torch

# Before torch 2.6 its own protection can't read what mmengine writes.
TORCH_IS_SAFE = tuple(int(part) for part in torch.__version__.split('.')[:2]) >= (2, 6)
BUILTINS = (
    bool, bytearray, bytes, complex, dict, float, frozenset, int, list, range, set, slice, str,
    tuple,
)  # fmt: skip
STANDARD = (
    argparse.Namespace,
    types.SimpleNamespace,
    collections.Counter,
    collections.OrderedDict,
    collections.defaultdict,
    collections.deque,
    datetime.date,
    datetime.datetime,
    datetime.time,
    datetime.timedelta,
    datetime.timezone,
)
# By name, since most processes import none of them; they hold data alone.
DATA_ELEMENTS = (
    'mmengine.structures.base_data_element.BaseDataElement',
    'mmengine.structures.instance_data.InstanceData',
    'mmengine.structures.label_data.LabelData',
    'mmengine.structures.pixel_data.PixelData',
    'mmpretrain.structures.data_sample.DataSample',
    'mmpretrain.structures.multi_task_data_sample.MultiTaskDataSample',
    'mmdet.structures.det_data_sample.DetDataSample',
    'mmseg.structures.seg_data_sample.SegDataSample',
)
# Of a HistoryBuffer, which may have more, registered by a user.
STATISTICS = ('min', 'max', 'mean', 'current')

_allowed_by_user: dict[str, Any] = {}


class UnsafeContentError(pickle.UnpicklingError):
    """A file that holds, or pretends to hold, something that may not be read."""


class UnreadableCheckpointError(RuntimeError):
    """A checkpoint that can't be read, with a message that says why and what to do."""


def allow(*classes: type) -> None:
    """Lets checkpoints and pickles hold instances of some more classes.

    Args:
        classes: classes that you know to do no harm when they are built from a file.
    """
    for owner in classes:
        _allowed_by_user[f'{owner.__module__}.{owner.__qualname__}'] = owner
    if hasattr(torch.serialization, 'add_safe_globals'):
        torch.serialization.add_safe_globals(list(classes))


@cache
def safe_globals() -> dict[str, Any]:
    """What a file may name, beside what torch allows: by full name."""
    allowed = {f'{item.__module__}.{item.__qualname__}': item for item in (*BUILTINS, *STANDARD)}
    # Python 3.13 moved the classes of paths, and those of another system can't be built.
    foreign = {'PosixPath' if os.name == 'nt' else 'WindowsPath'}
    for name in ('PurePath', 'PurePosixPath', 'PureWindowsPath', 'Path', 'PosixPath',
                 'WindowsPath'):  # fmt: skip
        kind = getattr(pathlib, f'Pure{name}' if name in foreign else name)
        allowed.update({f'pathlib.{name}': kind, f'pathlib._local.{name}': kind})
    allowed.update(_numpy_globals())
    try:
        from mmengine.config import Config, ConfigDict
        from mmengine.logging import HistoryBuffer
    except ImportError:
        return allowed

    def history_method(owner: type, name: str):
        """``getattr``, but for the statistics of HistoryBuffer alone."""
        known = {*STATISTICS, *HistoryBuffer._statistics_methods}
        if owner is not HistoryBuffer or name not in known:
            raise UnsafeContentError(f'builtins.getattr, by which it may not read {name!r}')
        return getattr(owner, name)

    for item in (Config, ConfigDict, HistoryBuffer):
        allowed[f'{item.__module__}.{item.__qualname__}'] = item
    # A HistoryBuffer pickles its methods as getattr(HistoryBuffer, name), newer pickles by name.
    allowed['builtins.getattr'] = history_method
    for name in STATISTICS:
        method = getattr(HistoryBuffer, name)
        allowed[f'{method.__module__}.{method.__qualname__}'] = method
    return allowed


def _numpy_globals() -> dict[str, Any]:
    try:
        import numpy as np
    except ImportError:
        return {}
    core = np._core if int(np.__version__.partition('.')[0]) >= 2 else np.core
    allowed = {'numpy.ndarray': np.ndarray, 'numpy.dtype': np.dtype}
    for code in np.typecodes['All']:
        kinds = np.dtype(code).type, type(np.dtype(code))
        allowed.update({f'{kind.__module__}.{kind.__qualname__}': kind for kind in kinds})
    for name, item in (
        ('multiarray._reconstruct', core.multiarray._reconstruct),
        ('multiarray.scalar', core.multiarray.scalar),
        ('numeric._frombuffer', core.numeric._frombuffer),
    ):
        # numpy 2 renamed its core, and a file may come from either.
        allowed.update({f'numpy.core.{name}': item, f'numpy._core.{name}': item})
    return allowed


def _storage_from_bytes(data: bytes) -> Any:
    """torch's way to pickle a tensor outside of a checkpoint, which by itself is not safe."""
    return load(io.BytesIO(data))


class SafeUnpickler(pickle.Unpickler):
    """Builds only what :func:`safe_globals`, torch's own list and :func:`allow` name."""

    def find_class(self, module: str, name: str) -> Any:
        # As pickle does for the names of Python 2, which torch and mmengine write.
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        full_name = f'{module}.{name}'
        for allowed in (_torch_globals(), safe_globals(), _allowed_by_user):
            if full_name in allowed:
                return allowed[full_name]
        if full_name in DATA_ELEMENTS:
            return getattr(import_module(module), name)
        raise UnsafeContentError(full_name)


@cache
def _torch_globals() -> dict[str, Any]:
    from torch._weights_only_unpickler import _get_allowed_globals

    return {
        # Which torch 1.13 does not list.
        '_codecs.encode': codecs.encode,
        'torch.device': torch.device,
        'torch._tensor._rebuild_from_type_v2': torch._tensor._rebuild_from_type_v2,
        **{str(item): item for item in vars(torch).values() if isinstance(item, torch.dtype)},
        **_get_allowed_globals(),
        'torch.storage._load_from_bytes': _storage_from_bytes,
        'torch.torch.storage._load_from_bytes': _storage_from_bytes,
    }


class SafePickle:
    """What torch.load takes as ``pickle_module``."""

    Unpickler = SafeUnpickler
    UnpicklingError = pickle.UnpicklingError

    @staticmethod
    def load(file: BinaryIO, **options) -> Any:
        return SafeUnpickler(file, **options).load()


def load_pickle(file: str | os.PathLike | BinaryIO, **options: Any) -> Any:
    """Reads a pickle that may hold what this module lists, and nothing else.

    Args:
        file: path, or an open file.
        options: those of ``pickle.load``.

    Raises:
        OSError: the file can't be opened.
        UnreadableCheckpointError: it holds something else, or is no whole pickle.
    """
    is_path = isinstance(file, (str, os.PathLike))
    with open(file, 'rb') if is_path else nullcontext(file) as opened:
        try:
            return SafeUnpickler(opened, **options).load()
        except Exception as error:
            raise _explained(_name(opened), error) from error


def load(file: str | os.PathLike | BinaryIO, map_location: Any = None, torch_load=None) -> Any:
    """``torch.load`` of what this module lists, and nothing else, in any version of torch.

    Args:
        file: path, or an open file that can be rewound.
        map_location: as in ``torch.load``.
        torch_load: the function in its place. Defaults to None, ``torch.load``.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableCheckpointError: it holds something else, or is torn, empty or no checkpoint.
    """
    torch_load = torch_load or torch.load
    place = 0 if isinstance(file, (str, os.PathLike)) else file.tell()
    _refuse_torchscript(file)
    if TORCH_IS_SAFE:
        try:
            return torch_load(file, map_location=map_location, weights_only=True)
        except Exception:  # Told below, by name.
            if not isinstance(file, (str, os.PathLike)):
                file.seek(place)
    try:
        with _pickle_of_torch():
            return torch_load(file, map_location=map_location, pickle_module=SafePickle, **_UNSAFE)
    except Exception as error:
        explained = _explained(_name(file), error)
        if explained is error:
            raise
        raise explained from error


def _refuse_torchscript(file: str | os.PathLike | BinaryIO) -> None:
    """``torch.load`` would hand a program to ``torch.jit.load``, past every list."""
    is_path = isinstance(file, (str, os.PathLike))
    with open(file, 'rb') if is_path else nullcontext(file) as opened:
        name = _name(opened)
        place = opened.tell()
        try:
            if opened.read(4) != b'PK\x03\x04':  # As torch itself tells archives.
                return
            members = zipfile.ZipFile(opened).namelist()
        except Exception as error:
            raise _explained(name, error) from error
        finally:
            opened.seek(place)
    if any(member.endswith('/constants.pkl') for member in members):
        raise UnreadableCheckpointError(
            f'{name} is a TorchScript program, no checkpoint: pass a file of weights'
        )


@contextmanager
def _pickle_of_torch() -> Iterator[None]:
    """torch 1.13 ignores its argument ``pickle_module`` and takes the module that it imported."""
    imported = torch.serialization.pickle
    if not TORCH_IS_SAFE:
        torch.serialization.pickle = SafePickle
    try:
        yield
    finally:
        torch.serialization.pickle = imported


# torch's own protection excludes a pickle_module, which is the protection here.
_UNSAFE = {'weights_only': False} if TORCH_IS_SAFE else {}


def _name(file: str | os.PathLike | BinaryIO) -> str:
    """What a file is called in a message."""
    name = file if isinstance(file, (str, os.PathLike)) else getattr(file, 'name', None)
    return 'a file without a name' if name is None else repr(str(name))


def _explained(name: str, error: Exception) -> Exception:
    """The error as one sentence, or as it is where the file is not to blame for it."""
    while isinstance(error, UnreadableCheckpointError) and error.__cause__:
        error = error.__cause__  # Of a tensor in a pickle, which is a file in a file.
    if isinstance(error, UnsafeContentError):
        kind = str(error)
        if ' ' in kind or kind.partition('.')[0] in sys.stdlib_module_names:
            return UnreadableCheckpointError(
                f'{name} was not read, since it names {kind}, which has no place among data '
                'and could run code: ask whoever made it for the data alone'
            )
        return UnreadableCheckpointError(
            f'{name} was not read, since it holds a {kind}, and building a class that is not '
            'known here could run code: ask its maker for the data alone, or, if you know the '
            'class to be harmless, let a module that the config names in custom_imports call '
            f'mmkendall.compat.safe_loading.allow({kind.rpartition(".")[2]})'
        )
    # No access, or no such device; but torch raises EINVAL where the end of a file is missing.
    denied = isinstance(error, OSError) and error.errno != errno.EINVAL
    if not (denied or 'CUDA' in str(error)):
        first_line = (str(error).splitlines() or [''])[0].partition('. ')[0]
        return UnreadableCheckpointError(
            f"{name} can't be read: it is empty, torn, or no such file as was expected "
            f'({type(error).__name__}: {first_line})'
        )
    return error

"""Which checkpoints are whole, and which of them is the newest."""

from __future__ import annotations

import os
import os.path as osp
import re
import zipfile
import zlib
from typing import NamedTuple

from torch.serialization import _open_zipfile_reader

from mmkendall.compat import safe_loading

LAST = 'last_checkpoint'
# epoch_12.pth and iter_4000.pth, but no best_accuracy_top1_epoch_12.pth.
NUMBERED = re.compile(r'(?P<prefix>(?!best_).*?)(?P<number>\d+)\.pth')


class Found(NamedTuple):
    """The newest whole checkpoint, or None, and why those before it were passed over."""

    path: str | None
    skipped: list[str]


def checkpoint_fault(path: str) -> str | None:
    """Why a file is no whole checkpoint, or None if it is one.

    torch writes zip archives, whose every member has a CRC-32: a file that was cut off, emptied,
    or of which bits were changed is found without unpickling it. A file
    in torch's older format has no checksums and is whole if torch can load it.

    Args:
        path: a local file.
    """
    if not osp.isfile(path):
        return 'there is no such file'
    if not osp.getsize(path):
        return 'it is empty'
    with open(path, 'rb') as file:
        is_archive = file.read(2) == b'PK'
    try:
        if is_archive:
            return _archive_fault(path)
        safe_loading.load(path, map_location='cpu')
    except Exception as error:  # A changed byte can make the readers raise nearly anything.
        return f'it is damaged ({_first_line(error)})'
    return None


def _archive_fault(path: str) -> str | None:
    if not zipfile.is_zipfile(path):
        return 'it is cut off'
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
        if damaged is not None:
            return f'its bytes have changed: the checksum of {damaged} is wrong'
        if not any(name.endswith('/data.pkl') for name in archive.namelist()):
            return 'it is an archive that torch.save did not write'
        sums = {info.filename.partition('/')[2]: info.CRC for info in archive.infolist()}
    # torch reads fields that zipfile does not, but checks no checksums.
    with _open_zipfile_reader(path) as reader:
        for name in reader.get_all_records():
            if hasattr(reader, 'get_record_offset'):
                reader.get_record_offset(name)
            elif zlib.crc32(reader.get_record(name)) != sums[name]:  # torch before 2.1
                return f'its bytes have changed: {name} is not where it was written'
    return None


def newest_whole_checkpoint(folder: str) -> Found:
    """The newest checkpoint of a run that is whole.

    That is the one that mmengine's ``last_checkpoint`` names, or one that was written after it:
    a run can be killed between the two files. Where that name is missing, empty or of a file that
    is gone or damaged, it is the last one written of the others, ``epoch_12.pth`` or
    ``iter_4000.pth``, that is whole. Best checkpoints have no optimizer, and are left out.

    Args:
        folder: the work directory of the run.
    """
    named = _named_in(folder)
    candidates = _numbered(folder)
    if named is not None and osp.abspath(osp.dirname(named)) != osp.abspath(folder):
        candidates += _numbered(osp.dirname(named))  # The hook had an out_dir.
    candidates.sort(key=_age, reverse=True)
    if named is not None:
        first = [path for path in candidates if _follows(path, named)]
        rest = [path for path in candidates if path not in first and not _same(path, named)]
        candidates = [*first, named, *rest]
    skipped = []
    for path in candidates:
        fault = checkpoint_fault(path)
        if fault is None:
            return Found(path, skipped)
        skipped.append(f'{path}: {fault}')
    return Found(None, skipped)


def _named_in(folder: str) -> str | None:
    try:
        with open(osp.join(folder, LAST), encoding='utf-8') as file:
            name = file.read().strip()
    except (OSError, UnicodeDecodeError):
        return None
    # The name is absolute: where the folder was moved or copied, it is of the folder before.
    beside = osp.join(folder, osp.basename(name))
    return beside if name and osp.isfile(beside) else name or None


def _numbered(folder: str) -> list[str]:
    if not osp.isdir(folder):
        return []
    return [osp.join(folder, name) for name in os.listdir(folder) if NUMBERED.fullmatch(name)]


def _age(path: str) -> tuple[int, int]:
    # Files of one second on a coarse file system, or of one copy, are told apart by number.
    return os.stat(path).st_mtime_ns, int(NUMBERED.fullmatch(osp.basename(path))['number'])


def _same(one: str, other: str) -> bool:
    return osp.abspath(one) == osp.abspath(other)


def _follows(path: str, named: str) -> bool:
    """Whether a checkpoint is of the same series as another, and later in name and in time.

    Files of an earlier, longer run in the same folder are later in name alone.
    """
    one = NUMBERED.fullmatch(osp.basename(path))
    other = NUMBERED.fullmatch(osp.basename(named))
    if other is None or one['prefix'] != other['prefix']:
        return False
    if int(one['number']) <= int(other['number']):
        return False
    return not osp.isfile(named) or os.stat(path).st_mtime_ns >= os.stat(named).st_mtime_ns


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]

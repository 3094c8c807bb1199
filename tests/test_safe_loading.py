"""Checkpoints and pickles: what is harmless loads, what could run code is refused by name."""

from __future__ import annotations

import argparse
import collections
import datetime
import os
import pathlib
import pickle
import re
import subprocess
import sys
import types

import mmengine
import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from mmengine.structures import InstanceData
from mmpretrain.structures import DataSample

from mmkendall.compat import safe_loading
from mmkendall.compat.safe_loading import UnreadableCheckpointError, load_pickle

from .conftest import REPOSITORY


def grouped() -> collections.defaultdict:
    filled = collections.defaultdict(list)
    filled['a'].append(1)
    return filled


CONTENT = {
    'Namespace': argparse.Namespace(lr=0.1, out=pathlib.Path('x'), nested=argparse.Namespace()),
    'SimpleNamespace': types.SimpleNamespace(a=1),
    'Path': pathlib.Path('a/b'),
    'PureWindowsPath': pathlib.PureWindowsPath('c:/d'),
    'ConfigDict': ConfigDict(a=dict(b=[1, dict(c=2)])),
    'Config': Config(dict(a=1)),
    'datetime': datetime.datetime(2020, 1, 2, 3, 4, 5, 6, datetime.timezone.utc),
    'timedelta': datetime.timedelta(1),
    'defaultdict': grouped(),
    'OrderedDict': collections.OrderedDict(a=1),
    'deque': collections.deque([1, 2], 3),
    'Counter': collections.Counter('aab'),
    'sets': [{1, 2}, frozenset([3])],
    'numbers': [1j, range(3), slice(1, 2), b'abc', bytearray(b'd')],
    'str_': np.str_('top1'),
    'bytes_': np.bytes_(b'top1'),
    'numpy class': np.float32,
    'numpy dtype': np.dtype('int16'),
    'structured': np.zeros(2, dtype=[('a', 'i4'), ('b', 'f8')]),
    'objects': np.array([{'a': 1}, None], dtype=object),
    'texts': np.array(['a', 'bb']),
    'dates': np.array(['2020-01-01'], dtype='M8[D]'),
    'random state': np.random.RandomState(0).get_state(),
    'torch': [torch.device('cpu'), torch.float16, torch.Size([1, 2]), torch.ones(2).half()],
    **{f'array {code}': np.ones(2, code) for code in 'bBhHiIlL?efdgFDG'},
    **{f'scalar {code}': np.ones(1, code)[0] for code in 'bBhHiIlL?efdgFDG'},
}  # fmt: skip


@pytest.mark.parametrize('name', CONTENT)
def test_ordinary_content_loads(name, tmp_path):
    """Through mmengine's loader, by our list alone as older torch has it, and from a pickle."""
    content = CONTENT[name]
    torch.save({'state_dict': {'w': torch.ones(2)}, 'beside': content}, tmp_path / 'in.pth')
    found = [CheckpointLoader.load_checkpoint(str(tmp_path / 'in.pth'), 'cpu')]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(safe_loading, 'TORCH_IS_SAFE', False)
        found.append(safe_loading.load(tmp_path / 'in.pth'))
    for protocol in (2, pickle.HIGHEST_PROTOCOL):
        path = tmp_path / 'in.pkl'
        path.write_bytes(pickle.dumps({'beside': content}, protocol))
        found.append(load_pickle(path))
    for result in found:
        assert type(result['beside']) is type(content)
        assert repr(result['beside']) == repr(content)


def test_data_elements_and_history_load(tmp_path):
    sample = DataSample().set_pred_score(torch.rand(3)).set_gt_label(1)
    content = [sample, InstanceData(boxes=torch.rand(2, 4)), HistoryBuffer([1.0, 3.0], [1, 1])]
    for protocol in (2, pickle.HIGHEST_PROTOCOL):
        (tmp_path / 'in.pkl').write_bytes(pickle.dumps(content, protocol))
        loaded = load_pickle(tmp_path / 'in.pkl')
        torch.testing.assert_close(loaded[0].pred_score, sample.pred_score)
        torch.testing.assert_close(loaded[1].boxes, content[1].boxes)
        assert loaded[2].mean() == 2


class Stranger:
    """A class that nobody knows."""


class Calls:
    """Pickles as the call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (Stranger(), r'since it holds a tests\.test_safe_loading\.Stranger, .*allow\(Stranger\)$'),
        (Calls(os.system, 'touch ran'), r'since it names (posix|nt)\.system, which has no place'),
        (Calls(eval, 'open("ran", "w")'), r'since it names builtins\.eval, which has no place'),
        (Calls(getattr, HistoryBuffer, '__init__'), "may not read '__init__'"),
        (Calls(getattr, HistoryBuffer, 'register_statistics'), "may not read 'register"),
        (subprocess.Popen, r'names subprocess\.Popen'),
        (Calls(torch.hub.load, 'a/b', 'c'), r'since it holds a torch\.hub\.load'),
        (Calls(torch.storage._load_from_bytes, pickle.dumps(Calls(os.mkdir, 'ran'))), 'mkdir'),
    ],
)
def test_other_content_is_refused_by_name(content, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({'state_dict': {}, 'beside': content}, 'in.pth')
    torch.save(
        {'state_dict': {}, 'beside': content}, 'old.pth', _use_new_zipfile_serialization=False
    )
    pathlib.Path('in.pkl').write_bytes(pickle.dumps([content]))
    for load, path in (
        (CheckpointLoader.load_checkpoint, 'in.pth'),
        (CheckpointLoader.load_checkpoint, 'old.pth'),
        (load_pickle, 'in.pkl'),
    ):
        with pytest.raises(UnreadableCheckpointError, match=message) as raised:
            load(path)
        assert str(raised.value).startswith(f"'{path}'")
        assert '\n' not in str(raised.value)
        assert 'weights_only' not in str(raised.value)
    assert not os.path.exists('ran')


def test_annotations_are_read_alike(tmp_path):
    """As a dataset of mmengine reads them; what DumpResults writes is such a file, too."""
    annotations = {
        'metainfo': {'classes': ('a', 'b')},
        'data_list': [{'img_path': 'a.png', 'gt_label': np.int64(1)}],
    }
    good, evil = tmp_path / 'good.pkl', tmp_path / 'evil.pkl'
    mmengine.dump(annotations, good)
    dataset = BaseDataset(str(good), serialize_data=False)
    assert dataset[0]['gt_label'] == 1
    assert dataset.metainfo['classes'] == ('a', 'b')
    mmengine.dump({**annotations, 'beside': Calls(os.mkdir, str(tmp_path / 'ran'))}, evil)
    for read in (BaseDataset, mmengine.load):
        with pytest.raises(UnreadableCheckpointError, match='has no place among data'):
            read(str(evil))
    assert not (tmp_path / 'ran').exists()


def test_an_allowed_class_loads(tmp_path, monkeypatch):
    monkeypatch.setattr(safe_loading, '_allowed_by_user', {})
    torch.save({'beside': Stranger()}, tmp_path / 'in.pth')
    safe_loading.allow(Stranger)
    try:
        loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'in.pth'))
    finally:
        if safe_loading.TORCH_IS_SAFE:
            torch.serialization._weights_only_unpickler._remove_safe_globals([Stranger])
    assert isinstance(loaded['beside'], Stranger)


def test_files_from_the_network_are_read_alike(tmp_path, monkeypatch):
    """mmengine's loader of URLs asks torch for no protection; the file is in its cache here."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    cached = tmp_path / 'hub' / 'checkpoints'
    cached.mkdir(parents=True)
    torch.save({'beside': Calls(os.mkdir, str(tmp_path / 'ran'))}, cached / 'evil.pth')
    torch.save({'beside': CONTENT['Namespace']}, cached / 'good.pth')
    with pytest.raises(UnreadableCheckpointError, match='has no place among data'):
        CheckpointLoader.load_checkpoint('https://example.com/evil.pth')
    assert not (tmp_path / 'ran').exists()
    assert CheckpointLoader.load_checkpoint('https://example.com/good.pth')['beside'].lr == 0.1


@pytest.mark.parametrize('kept', [0, 10, 0.5, -5])
def test_a_torn_file_is_said_to_be_torn(kept, tmp_path):
    path = tmp_path / 'in.pth'
    torch.save({'state_dict': {'w': torch.ones(10000)}}, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept) if kept == 0.5 else kept])
    with pytest.raises(UnreadableCheckpointError, match="can't be read: it is empty, torn"):
        CheckpointLoader.load_checkpoint(str(path))


def test_changed_bytes_are_an_error_in_one_sentence(tmp_path):
    """Anywhere in the archive, its directory and the pickle included."""
    path = tmp_path / 'in.pth'
    torch.save({'state_dict': {'w': torch.ones(10)}, 'meta': {'epoch': 1}}, path)
    content = path.read_bytes()
    refused = 0
    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            CheckpointLoader.load_checkpoint(str(path), logger='silent')
        except UnreadableCheckpointError:
            refused += 1
    assert refused > 20


def test_programs_are_refused(tmp_path):
    torch.jit.script(torch.nn.ReLU()).save(str(tmp_path / 'in.pth'))
    with pytest.raises(UnreadableCheckpointError, match='TorchScript program'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'in.pth'))


def test_nothing_of_ours_reads_a_pickle_by_itself():
    """Data of users goes through safe_loading: one place that may say torch.load or pickle."""
    reads = re.compile(
        r'(?<![\w.])(torch\.load|pickle\.loads?|joblib\.load|torch\.jit\.load|yaml\.load)\('
        r'|weights_only=False|allow_pickle=True|mmengine\.load\(|fileio import .*\bload\b'
    )
    found = [
        f'{path.relative_to(REPOSITORY)}: {line.strip()}'
        for folder in ('mmkendall', 'tools')
        for path in sorted((REPOSITORY / folder).rglob('*.py'))
        if '.mim' not in path.parts and path.name != 'safe_loading.py'
        for line in path.read_text().splitlines()
        if reads.search(line) and 'weights_only=True' not in line
    ]
    assert found == []


def test_importing_any_part_opens_no_connection():
    """In an interpreter in which opening a socket is an error."""
    code = """
import importlib, pkgutil, socket

def refuse(*args, **kwargs):
    raise AssertionError(f'a connection was opened: {args}')

socket.socket.connect = socket.socket.connect_ex = refuse
socket.create_connection = socket.getaddrinfo = refuse
import mmkendall
from mmkendall import compat
compat.apply()
failed = []
for module in pkgutil.walk_packages(mmkendall.__path__, 'mmkendall.', failed.append):
    if module.name.rpartition('.')[2] in ('__main__', 'triton_cuda', 'triton_kernels'):
        continue
    importlib.import_module(module.name)
assert not failed, failed
"""
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]

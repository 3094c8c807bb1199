"""A file that could not be written as it was meant leaves the one that was there."""

from __future__ import annotations

import pytest

from mmkendall import whole_files
from mmkendall.engine.whole_checkpoints import checkpoint_fault
from mmkendall.whole_files import write_atomically

from .test_engine.test_whole_checkpoints import save


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = save(tmp_path / 'epoch_1.pth', 1)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(whole_files.os, 'fsync', full)
    with pytest.raises(OSError, match='No space left'):
        write_atomically(str(path), before + b'more')
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ['epoch_1.pth']


def test_what_was_not_written_as_it_was_meant_is_not_put_in_place(tmp_path):
    path = save(tmp_path / 'epoch_1.pth', 1)
    before = path.read_bytes()
    with pytest.raises(OSError, match='read back it is cut off'):
        write_atomically(str(path), before[:-100], checkpoint_fault)
    assert path.read_bytes() == before

"""A checkpoint that is not whole is found out, and the newest whole one is taken."""

from __future__ import annotations

import os

import pytest
import torch

from mmkendall.compat import safe_loading
from mmkendall.engine.whole_checkpoints import (
    checkpoint_fault,
    newest_whole_checkpoint,
)


def save(path, number: int = 0, when: int | None = None):
    torch.save({'weights': torch.arange(3000.0) + number, 'meta': {'epoch': number}}, path)
    if when is not None:
        os.utime(path, (when, when))
    return path


def test_no_changed_byte_goes_unnoticed(tmp_path):
    """A changed byte is found, or it is none that the contents depend on."""
    path = save(tmp_path / 'epoch_1.pth')
    whole = path.read_bytes()
    assert checkpoint_fault(str(path)) is None
    generator = torch.Generator().manual_seed(0)
    found = 0
    # The first and the last bytes hold names, sizes and offsets of the archive.
    places = [*range(0, 700, 3), *range(len(whole) - 900, len(whole), 3)]
    places += torch.randint(len(whole), (100,), generator=generator).tolist()
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 1 << int(torch.randint(8, (1,), generator=generator))
        path.write_bytes(changed)
        if checkpoint_fault(str(path)) is not None:
            found += 1
            continue
        loaded = safe_loading.load(path)
        assert torch.equal(loaded['weights'], torch.arange(3000.0))
        assert loaded['meta'] == {'epoch': 0}
    assert found > len(places) / 2


@pytest.mark.parametrize('length', [0, 1, 100, 5000, -1])
def test_a_file_that_was_cut_off(tmp_path, length):
    path = save(tmp_path / 'epoch_1.pth')
    path.write_bytes(path.read_bytes()[:length])
    assert checkpoint_fault(str(path)) is not None


def test_torchs_older_format(tmp_path):
    path = tmp_path / 'epoch_1.pth'
    torch.save({'weights': torch.ones(9)}, path, _use_new_zipfile_serialization=False)
    assert checkpoint_fault(str(path)) is None
    path.write_bytes(path.read_bytes()[:-20])
    assert 'it is damaged' in checkpoint_fault(str(path))


def test_the_newest_whole_one(tmp_path):
    for number in (8, 9, 10):
        save(tmp_path / f'epoch_{number}.pth', number, when=1000 + number)
    save(tmp_path / 'best_accuracy_epoch_10.pth', when=2000)
    last = tmp_path / 'last_checkpoint'

    def newest() -> str:
        return newest_whole_checkpoint(str(tmp_path)).path.rpartition('/')[2]

    assert newest() == 'epoch_10.pth'  # There is no last_checkpoint.
    for text in ('', 'gone.pth', str(tmp_path / 'epoch_11.pth')):
        last.write_text(text)
        assert newest() == 'epoch_10.pth'
    last.write_text(str(tmp_path / 'epoch_9.pth'))
    assert newest() == 'epoch_10.pth'  # Killed between the checkpoint and last_checkpoint.
    (tmp_path / 'epoch_10.pth').write_bytes(b'PK')
    found = newest_whole_checkpoint(str(tmp_path))
    assert found.path == str(tmp_path / 'epoch_9.pth')
    assert found.skipped == [f'{tmp_path}/epoch_10.pth: it is cut off']
    last.write_text('/elsewhere/epoch_9.pth')  # The folder was moved.
    assert newest() == 'epoch_9.pth'


def test_files_of_an_earlier_longer_run_are_not_the_newest(tmp_path):
    save(tmp_path / 'epoch_300.pth', when=1000)
    save(tmp_path / 'epoch_5.pth', when=2000)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_5.pth'))
    assert newest_whole_checkpoint(str(tmp_path)).path == str(tmp_path / 'epoch_5.pth')
    (tmp_path / 'last_checkpoint').unlink()
    assert newest_whole_checkpoint(str(tmp_path)).path == str(tmp_path / 'epoch_5.pth')


def test_an_empty_or_missing_folder(tmp_path):
    for folder in (tmp_path, tmp_path / 'gone'):
        assert newest_whole_checkpoint(str(folder)) == (None, [])

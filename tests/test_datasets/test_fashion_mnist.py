"""Files in the format of MNIST, written by hand from its description."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS

from mmkendall.datasets.fashion_mnist import read_idx

SIZES = {'train': 60000, 't10k': 10000}


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """All images, each with its number in its first four pixels; labels in a circle."""
    folder = tmp_path_factory.mktemp('fashion')
    for part, size in SIZES.items():
        images = np.zeros((size, 28 * 28), np.uint8)
        images[:, :4] = np.arange(size, dtype='>u4').view(np.uint8).reshape(-1, 4)
        head = struct.pack('>IIII', 0x803, size, 28, 28)
        labels = struct.pack('>II', 0x801, size) + bytes(i % 10 for i in range(size))
        packed = gzip.compress(head + images.tobytes(), compresslevel=1)
        (folder / f'{part}-images-idx3-ubyte.gz').write_bytes(packed)
        (folder / f'{part}-labels-idx1-ubyte').write_bytes(labels)
    return folder


def numbers(images: torch.Tensor) -> np.ndarray:
    return images[:, 0, 2, 2:6].numpy().view('>u4').ravel()


def test_splits(folder):
    parts = {
        split: DATASETS.build(
            dict(type='mmkendall.FashionMNIST', data_root=str(folder), split=split)
        )
        for split in ('train', 'val', 'test')
    }
    assert [len(part) for part in parts.values()] == [50000, 10000, 10000]
    found = {split: numbers(part.images) for split, part in parts.items()}
    assert sorted([*found['train'], *found['val']]) == list(range(60000))
    assert found['test'].tolist() == list(range(10000))
    for split, part in parts.items():
        assert part.images.shape[1:] == (1, 32, 32)
        assert part.labels.tolist() == [number % 10 for number in found[split]]
        assert torch.bincount(part.labels).tolist() == [len(part) // 10] * 10
    assert int(parts['train'][7]['data_samples'].gt_label) == found['train'][7] % 10
    assert parts['val'].metainfo['classes'][9] == 'Ankle boot'


def test_refuses(folder, tmp_path):
    for options, error, message in (
        (dict(split='all'), ValueError, "split must be 'train', 'val' or 'test', got 'all'"),
        (
            dict(data_root=str(tmp_path), split='test'),
            FileNotFoundError,
            'apt-get install dataset-fashion-mnist',
        ),
    ):
        with pytest.raises(error, match=message):
            DATASETS.build({'type': 'mmkendall.FashionMNIST', 'data_root': str(folder), **options})
    name = 't10k-images-idx3-ubyte'
    packed = (folder / f'{name}.gz').read_bytes()
    (tmp_path / f'{name}.gz').write_bytes(packed[: len(packed) // 2])
    with pytest.raises(ValueError, match="can't be unpacked"):
        read_idx(tmp_path / name, (10000, 28, 28))
    whole = gzip.decompress(packed)
    for data in (whole[:-1], whole[1:], b''):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match='must hold bytes of shape'):
            read_idx(tmp_path / name, (10000, 28, 28))

from __future__ import annotations

import numpy as np
import pytest
from mmengine.registry import DATASETS
from sklearn.datasets import load_digits


def test_split_is_whole_disjoint_and_stratified():
    parts = [DATASETS.build(dict(type='mmkendall.Digits', split=s)) for s in ('train', 'test')]
    assert [len(part) for part in parts] == [1297, 500]
    assert parts[0].metainfo['classes'] == tuple('0123456789')
    images = [np.stack([part[i]['img'] for i in range(len(part))]) for part in parts]
    labels = [np.array([part[i]['gt_label'] for i in range(len(part))]) for part in parts]
    assert images[0].shape == (1297, 8, 8, 1)
    assert images[0].dtype == np.uint8
    whole = sorted(map(bytes, np.concatenate(images).reshape(-1, 64)))
    original = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)
    assert whole == sorted(map(bytes, original.reshape(-1, 64)))
    shares = [np.bincount(part, minlength=10) / len(part) for part in labels]
    np.testing.assert_allclose(*shares, atol=0.002)


def test_unknown_split():
    with pytest.raises(ValueError, match="split must be 'train' or 'test', got 'val'"):
        DATASETS.build(dict(type='mmkendall.Digits', split='val'))

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS

from mmkendall.datasets import stack_batch

NORMALISED = dict(num_classes=119, mean=[10.0], std=[3.0])


@pytest.fixture
def samples(letters_folder):
    data = DATASETS.build(
        dict(type='mmkendall.Glyphs', data_root=str(letters_folder), split='val')
    )
    return lambda: data.__getitems__([5, 3, 100])


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize(
    'options',
    [
        NORMALISED,
        dict(num_classes=119),
        dict(NORMALISED, to_rgb=True),
        dict(NORMALISED, pad_size_divisor=20),
        dict(NORMALISED, to_onehot=True),
        dict(NORMALISED, batch_augments=dict(augments=dict(type='mmpretrain.Mixup', alpha=0.8))),
    ],
)
@pytest.mark.parametrize('collate', [stack_batch, pseudo_collate])
def test_is_what_mmpretrain_makes(samples, options, collate, training):
    outcomes = []
    for kind in ('mmkendall.StackedDataPreprocessor', 'mmpretrain.ClsDataPreprocessor'):
        np.random.seed(0)
        torch.manual_seed(0)
        outcomes.append(MODELS.build(dict(type=kind, **options))(collate(samples()), training))
    ours, theirs = outcomes
    assert ours['inputs'].dtype == torch.float32
    assert torch.equal(ours['inputs'], theirs['inputs'])
    for sample, other in zip(ours['data_samples'], theirs['data_samples'], strict=True):
        assert torch.equal(sample.gt_label, other.gt_label)
        assert ('gt_score' in sample) == ('gt_score' in other)
        if 'gt_score' in sample:
            assert torch.equal(sample.gt_score, other.gt_score)


def test_images_stay_what_they_are(samples):
    batch = stack_batch(samples())
    before = batch['inputs'].clone()
    MODELS.build(dict(type='mmkendall.StackedDataPreprocessor', **NORMALISED))(batch)
    assert torch.equal(batch['inputs'], before)

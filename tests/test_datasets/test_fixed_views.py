"""Each row is one image, whatever happens around it."""

from __future__ import annotations

import random
import zlib

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATA_SAMPLERS, DATASETS
from torch.utils.data import DataLoader

from mmkendall.datasets import FixedViews
from mmkendall.datasets.fixed_views import seeded

PIPELINE = [
    dict(type='mmpretrain.RandomCrop', crop_size=8, padding=2),
    dict(type='mmpretrain.RandomFlip', prob=0.5),
    dict(type='mmpretrain.PackInputs'),
]


def views(num_views: int = 2, seed: int = 0, **options) -> FixedViews:
    dataset = dict(
        type='mmkendall.Digits', split='train', indices=40, pipeline=PIPELINE, **options
    )
    return DATASETS.build(
        dict(type='mmkendall.FixedViews', dataset=dataset, num_views=num_views, seed=seed)
    )


def images(loader) -> dict[int, torch.Tensor]:
    found = {}
    for batch in loader:
        for image, sample in zip(batch['inputs'], batch['data_samples'], strict=True):
            found[sample.view_row] = image
    return found


def test_a_row_is_one_image_in_any_order_and_process():
    dataset = views()
    rows = list(range(dataset.num_rows))
    again = views()
    expected = {row: again[row]['inputs'] for row in rows}
    np.random.seed(1)
    order = random.sample(rows, len(rows))
    for workers, sampler in ((0, order), (2, order)):
        loader = DataLoader(
            dataset, 7, sampler=sampler, num_workers=workers, collate_fn=pseudo_collate
        )
        found = images(loader)
        assert sorted(found) == rows
        assert all(torch.equal(found[row], expected[row]) for row in rows)


def test_views_and_seeds_differ():
    dataset, other = views(), views(seed=1)
    length = len(dataset)
    assert length == 40
    changed = [
        not torch.equal(dataset[row]['inputs'], another[at]['inputs'])
        for row in range(length)
        for another, at in ((dataset, row + length), (other, row))
    ]
    assert sum(changed) > 0.8 * len(changed)
    assert dataset[3]['data_samples'].gt_label == dataset[3 + length]['data_samples'].gt_label
    assert dataset.get_data_info(3 + length)['sample_idx'] == 3


def test_checksum_is_of_the_image():
    data = views()[50]
    assert data['data_samples'].view_row == 50
    assert data['data_samples'].view_crc == zlib.crc32(data['inputs'].numpy().tobytes())


def test_says_which_classes_it_means():
    def said(**options) -> int:
        return views(**options)[0]['data_samples'].view_classes

    assert said() == said() == zlib.crc32('\n'.join('0123456789').encode())
    assert said(metainfo=dict(classes=tuple('9876543210'))) != said()


def test_random_states_of_the_run_are_left_alone():
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    dataset = views()
    drawn = []
    for disturb in (False, True):
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)
        first = draw()
        if disturb:
            dataset[5]
            with pytest.raises(ZeroDivisionError), seeded(3):
                raise ZeroDivisionError
        drawn.append([first, draw()])
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize('shuffle', [False, True])
def test_sampler_moves_on_each_epoch(shuffle):
    dataset = views(num_views=3)
    sampler = DATA_SAMPLERS.build(
        dict(type='mmkendall.ViewSampler', shuffle=shuffle, seed=0),
        default_args=dict(dataset=dataset),
    )
    for epoch in range(5):
        sampler.set_epoch(epoch)
        rows = list(sampler)
        view = epoch % 3
        assert sorted(rows) == list(range(40 * view, 40 * view + 40))
        assert (rows == sorted(rows)) is not shuffle
    assert len(sampler) == 40


@pytest.mark.parametrize(('num_views', 'seed'), [(0, 0), (1.5, 0), (1, -1), (1, None)])
def test_refuses_options(num_views, seed):
    with pytest.raises(ValueError, match='must be an integer of'):
        FixedViews([], num_views, seed)


def test_refuses_rows_and_datasets():
    with pytest.raises(IndexError, match='row 80 of 80'):
        views()[80]
    with pytest.raises(TypeError, match=r'needs the dataset mmkendall\.FixedViews, got list'):
        DATA_SAMPLERS.build(dict(type='mmkendall.ViewSampler'), default_args=dict(dataset=[1, 2]))
    listed = FixedViews([dict(inputs=[torch.zeros(1)])])
    with pytest.raises(TypeError, match="'inputs' are one tensor, got list"):
        listed[0]

"""Batches and options of datasets in memory, on drawn letters."""

from __future__ import annotations

import pickle
import zlib

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, FUNCTIONS
from mmpretrain.structures import DataSample
from torch.utils.data import DataLoader

from mmkendall.datasets import NumberedRows, stack_batch
from mmkendall.datasets.glyphs import letters


@pytest.fixture
def build(letters_folder):
    def build(split: str = 'train', **options):
        config = dict(type='mmkendall.Glyphs', data_root=str(letters_folder), split=split)
        return DATASETS.build({**config, **options})

    return build


def test_samples_are_those_that_were_drawn(build, letters_folder):
    for split, classes in (('train', 119), ('val', 119), ('test', 119), ('transfer_test', 26)):
        data = build(split)
        drawn = np.load(letters_folder / f'{split}.npy')
        faces, count, views = drawn.shape[:3]
        assert len(data) == faces * count * views == data.num_rows
        assert len(data.metainfo['classes']) == count == classes
        for view in range(views):
            index = (view * faces + faces - 1) * count + 5
            sample = data[index]
            assert sample['inputs'].shape == (1, 32, 32)
            assert np.array_equal(sample['inputs'][0].numpy(), drawn[-1, 5, view])
            said = sample['data_samples']
            assert isinstance(said, DataSample)
            assert said.gt_label.tolist() == [5]
            assert said.sample_idx == said.view_row == index
            assert said.view_crc == zlib.crc32(drawn[-1, 5, view].tobytes())
            assert said.group == data.meta['faces'][split.split('_')[-1]][-1]['group']
            assert data.get_data_info(index) == dict(
                sample_idx=index, gt_label=5, group=said.group
            )
    assert build().metainfo['classes'] == letters()
    with pytest.raises(IndexError, match='sample -1 of'):
        build()[-1]


def test_a_batch_is_its_samples(build):
    data = build()
    order = torch.randperm(len(data))[:7].tolist()
    one_by_one = [data[index] for index in order]
    at_once = data.__getitems__(order)
    for one, other in zip(one_by_one, at_once, strict=True):
        assert torch.equal(one['inputs'], other['inputs'])
        assert one['data_samples'].to_dict().keys() == other['data_samples'].to_dict().keys()
        for (name, value), again in zip(
            one['data_samples'].all_items(), other['data_samples'].all_values(), strict=True
        ):
            assert value == again, name
    collate = FUNCTIONS.get('mmkendall.stack_batch')
    batch = collate(at_once)
    assert torch.equal(batch['inputs'], torch.stack([data[index]['inputs'] for index in order]))
    plain = pseudo_collate(at_once)
    assert torch.equal(torch.stack(plain['inputs']), batch['inputs'])
    assert [sample.sample_idx for sample in batch['data_samples']] == order


def test_what_is_done_to_a_sample_is_gone_the_next_time(build):
    data = build()
    for sample in (data[3]['data_samples'], data.__getitems__([3])[0]['data_samples']):
        sample.set_gt_score(torch.zeros(119)).set_gt_label(7).set_pred_label(1)
        sample.set_metainfo({'group': -1, 'more': 1})
        for fresh in (data[3]['data_samples'], data[4]['data_samples']):
            assert 'gt_score' not in fresh
            assert 'pred_label' not in fresh
            assert 'more' not in fresh
            assert fresh.group >= 0
        assert data[3]['data_samples'].gt_label.tolist() == [3]


def test_a_written_sample_holds_its_label_alone(build):
    """torch writes the whole storage of a view."""
    label = build()[3]['data_samples'].gt_label
    assert len(pickle.dumps(label)) < 2000 < 8 * len(build())


@pytest.mark.parametrize('workers', [0, 1])
def test_through_a_dataloader(build, workers):
    data = build(num_views=1, num_faces=1)
    loader = DataLoader(data, 50, collate_fn=stack_batch, num_workers=workers)
    batches = list(loader)
    assert torch.equal(torch.cat([batch['inputs'] for batch in batches]), data.images)
    labels = [int(s.gt_label) for batch in batches for s in batch['data_samples']]
    assert labels == data.labels.tolist() == list(range(119))


def test_views_and_faces(build):
    whole, one_view, one_face = build(), build(num_views=1), build(num_faces=1)
    assert len(one_view) * 2 == len(whole)
    assert torch.equal(one_view.images, whole.images[: len(one_view)])
    assert len(one_face) == 2 * 119
    assert torch.equal(one_face.images, whole.images[one_face.rows])
    assert len(set(one_face.groups.tolist())) == 1
    faces = {build(num_faces=1, seed=seed).rows[0] for seed in range(8)}
    assert len(faces) > 1
    assert build(num_faces=1, seed=3).rows[0] == build(num_faces=1, seed=3).rows[0]


def test_rows_keep_their_number(build):
    """Teacher logits of all images serve a training on some of them."""
    whole = build()
    part = build(num_faces=2, leave_out_classes=60, wrong_labels=0.4, labels=False)
    assert isinstance(part, NumberedRows)
    assert part.num_rows == whole.num_rows == len(part.all_rows()) > len(part)
    for index in (0, len(part) - 1):
        sample = part[index]['data_samples']
        other = whole[sample.view_row]
        assert torch.equal(part[index]['inputs'], other['inputs'])
        for name in ('view_row', 'view_crc', 'view_classes', 'group'):
            assert sample.get(name) == other['data_samples'].get(name)
        assert sample.sample_idx == index
        assert 'gt_label' not in sample
        assert 'gt_label' not in part.get_data_info(index)
    assert part.all_rows()[5]['data_samples'].gt_label.tolist() == [5]


def test_left_out_classes_stay_classes(build):
    data = build(leave_out_classes=60)
    assert len(data.metainfo['classes']) == 119
    assert len(data.left_out_classes) == 60
    assert set(data.labels.tolist()) == set(range(119)) - set(data.left_out_classes)
    assert data.left_out_classes != build(leave_out_classes=60, seed=1).left_out_classes
    named = build(leave_out_classes=['a', 'ž'])
    assert named.left_out_classes == [0, letters().index('ž')]
    assert len(build()) - len(named) == 2 * len(build()) / 119


def test_wrong_labels(build):
    data, right = build(wrong_labels=0.4), build()
    assert torch.equal(data.true_labels, right.labels)
    assert torch.equal(data.changed_labels, data.labels != right.labels)
    images = len(data) // 2
    assert int(data.changed_labels[:images].sum()) == round(0.4 * images)
    # Both views of an image say the same.
    assert torch.equal(data.labels[:images], data.labels[images:])
    assert [int(data[i]['data_samples'].gt_label) for i in range(50)] == data.labels[:50].tolist()
    assert not torch.equal(data.labels, build(wrong_labels=0.4, seed=1).labels)
    everything = build(wrong_labels=1)
    assert everything.changed_labels.all()
    # Any other class, and none without images.
    assert len(set((everything.labels - everything.true_labels).tolist())) > 100
    some = build(wrong_labels=1, leave_out_classes=100)
    assert set(some.labels.tolist()) <= set(range(119)) - set(some.left_out_classes)


def test_long_tail(letters_folder, build):
    data = build('test', long_tail=4)
    faces = np.load(letters_folder / 'test.npy').shape[0]
    counts = sorted(torch.bincount(data.labels, minlength=119).tolist(), reverse=True)
    expected = [max(round(faces * 4 ** (-place / 118)), 1) for place in range(119)]
    assert counts == expected
    assert counts[0] == faces > counts[-1]
    other = build('test', long_tail=4, seed=1)
    assert not torch.equal(torch.bincount(data.labels), torch.bincount(other.labels))
    assert torch.equal(build('test', long_tail=1).images, build('test').images)


def test_options_draw_independently(build):
    """A share of wrong labels does not change which classes are left out."""
    alone, together = build(leave_out_classes=9), build(leave_out_classes=9, wrong_labels=0.5)
    assert alone.left_out_classes == together.left_out_classes
    assert torch.equal(alone.images, together.images)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(split='all'), 'split must be one of train, val'),
        (dict(num_views=3), 'num_views must be 2 at most'),
        (dict(num_views=0), 'num_views must be an integer of 1 or more, got 0'),
        (dict(num_faces=1000), 'num_faces must be .* at most, as many as there are, got 1000'),
        (dict(num_faces=1.5), 'num_faces must be an integer of 1 or more, got 1.5'),
        (dict(leave_out_classes=119), 'leave_out_classes must be 118 at most'),
        (dict(leave_out_classes=['A']), "with 'A', which is none"),
        (dict(leave_out_classes='abc'), "list of some of the 119 names of classes, got 'abc'"),
        (dict(long_tail=0.5), 'long_tail must be a number of 1 or more, got 0.5'),
        (dict(wrong_labels=1.5), 'wrong_labels must be a share from 0 to 1, got 1.5'),
        (dict(wrong_labels=float('nan')), 'wrong_labels must be a share from 0 to 1, got nan'),
        (dict(wrong_labels=0.5, leave_out_classes=118), 'needs images of two classes'),
        (dict(seed=-1), 'seed must be an integer of 0 or more, got -1'),
    ],
)
def test_refuses_options(build, options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)

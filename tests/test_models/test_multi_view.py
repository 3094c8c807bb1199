from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, default_collate, pseudo_collate
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.datasets.transforms import MultiView, PackInputs
from mmpretrain.registry import TRANSFORMS
from mmpretrain.structures import DataSample

from ..conftest import REPOSITORY

OPTIONS = dict(mean=[10.0], std=[2.0], num_classes=10)


def preprocessor(**options):
    config = dict(type='mmkendall.MultiViewDataPreprocessor', **OPTIONS, **options)
    return MODELS.build(config)


@pytest.mark.parametrize('collate', [default_collate, pseudo_collate])
def test_views_become_one_batch_with_their_labels(collate):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        views = MultiView(
            transforms=[[dict(type='RandomFlip', prob=0.0)], [dict(type='RandomFlip', prob=1.0)]],
            num_views=[1, 1],
        )
        pack = TRANSFORMS.build(dict(type='PackInputs'))
    images = np.random.randint(0, 255, (3, 8, 8, 1), dtype=np.uint8)
    batch = collate(
        [pack(views({'img': image, 'gt_label': 4 + i})) for i, image in enumerate(images)]
    )
    out = preprocessor()(batch, training=True)
    expected = np.concatenate([images, images[:, :, ::-1]])
    expected = (expected.transpose(0, 3, 1, 2) - 10.0) / 2.0
    np.testing.assert_allclose(out['inputs'].numpy(), expected, rtol=1e-6)
    assert [int(sample.gt_label) for sample in out['data_samples']] == [4, 5, 6] * 2


def test_one_view_passes_as_in_mmpretrain():
    pack = PackInputs()
    images = np.random.randint(0, 255, (3, 8, 8, 1), dtype=np.uint8)
    batch = [pack({'img': image, 'gt_label': 1}) for image in images]
    plain = MODELS.build(dict(type='mmpretrain.ClsDataPreprocessor', **OPTIONS))
    for collate in (default_collate, pseudo_collate):
        out, expected = (each(collate(batch)) for each in (preprocessor(), plain))
        torch.testing.assert_close(out['inputs'], expected['inputs'])
        assert len(out['data_samples']) == 3


def test_mixup_of_one_view_leaves_the_labels_of_the_other():
    augments = dict(augments=[dict(type='mmpretrain.Mixup', alpha=1.0)], probs=[1.0])
    samples = [DataSample().set_gt_label(label) for label in range(6)]
    data = {'inputs': [torch.rand(6, 1, 4, 4), torch.rand(6, 1, 4, 4)], 'data_samples': samples}
    out = preprocessor(batch_augments=augments)(data, training=True)
    scores = torch.stack([sample.gt_score for sample in out['data_samples']])
    assert scores.shape == (12, 10)
    assert (scores[:6] != scores[6:]).any()
    assert 'gt_score' not in samples[0]


def test_refuses_views_of_unlike_length():
    data = {'inputs': [torch.rand(6, 1, 4, 4), torch.rand(5, 1, 4, 4)], 'data_samples': None}
    with pytest.raises(ValueError, match='got 6, 5 images'):
        preprocessor()(data)


def test_pipeline_of_cifar100_makes_a_weak_and_a_strong_view():
    cfg = Config.fromfile(REPOSITORY / 'configs/_base_/datasets/cifar100_two_views_bs64.py')
    image = np.random.randint(0, 255, (32, 32, 3), dtype=np.uint8)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        pipeline = Compose(cfg.train_dataloader.dataset.pipeline)
        preprocess = MODELS.build(cfg.data_preprocessor)
    # Often enough that each of the 13 changes comes up.
    batch = default_collate([pipeline({'img': image, 'gt_label': i}) for i in range(100)])
    out = preprocess(batch, training=True)
    assert out['inputs'].shape == (200, 3, 32, 32)
    assert out['inputs'].isfinite().all()
    mean, std = (
        torch.tensor(cfg.data_preprocessor[key])[:, None, None] for key in ('mean', 'std')
    )
    weak, strong = (out['inputs'] * std + mean).round().chunk(2)
    # A weak view holds the image's own pixels, moved, and black ones; a strong one seldom.
    pixels = {tuple(pixel) for pixel in image.reshape(-1, 3)} | {(0, 0, 0)}
    own = [
        {tuple(pixel) for pixel in view.flatten(1).T.int().tolist()} <= pixels
        for view in (*weak, *strong)
    ]
    assert all(own[:100])
    assert sum(own[100:]) < 10

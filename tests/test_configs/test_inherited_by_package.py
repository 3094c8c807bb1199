"""A file of a user's own that inherits from the package is built as the config itself is."""

from __future__ import annotations

import numpy as np
import pytest
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DefaultScope

from mmkendall.engine.distill_config import build_runner, check_distill_config, load_config, train

from ..conftest import REPOSITORY, needs_mmdet

PAIR = 'logits_resnet18-w16_resnet18-w4_1xb64_digits'
VIEWS = {'Digits': (8, 8, 1), 'CIFAR100': (32, 32, 3), 'ImageNet': (256, 256, 3)}


def inherited(name: str, folder):
    """The config that a file inherits, with a random teacher and a folder of its own."""
    path = folder / 'own.py'
    path.write_text(f"_base_ = ['mmkendall::{name}.py']\n")
    cfg = load_config(str(path))
    cfg.work_dir = str(folder)
    cfg.log_level = 'WARNING'
    cfg.allow_random_teacher = True
    if 'teacher' in cfg.model:
        cfg.model.teacher_ckpt = None
    return cfg


@pytest.mark.parametrize(
    'name',
    [
        'digits/resnet18-w4_1xb64_digits',
        *(f'digits/{method}_{PAIR}' for method in ('dkd', 'kd-rank', 'lskd-rank', 'mlkd')),
    ],
)
def test_digits_train_an_iteration(name, tmp_path):
    cfg = inherited(name, tmp_path)
    check_distill_config(cfg)
    train(build_runner(cfg), stop_after_first=True)


@pytest.mark.parametrize(
    'name',
    [
        'cifar100/alone/resnet20_1xb64_cifar100',
        'cifar100/kd/kd-rank_logits_resnet56_resnet20_1xb64_cifar100',
        'imagenet/dkd/dkd-rank_logits_resnet34_resnet18_8xb64_in1k',
        'imagenet/dist-rank_logits_resnet34_resnet18_8xb32_in1k',
    ],
)
def test_the_run_and_the_data_are_built(name, tmp_path):
    """All but the data sets, which are not here."""
    cfg = inherited(name, tmp_path)
    check_distill_config(cfg)
    if '-rank' in name:  # The others' loops are compiled first, which takes a while.
        distiller = cfg.model.distiller
        rank = distiller.get('rank_loss') or distiller.distill_losses.loss_rank
        rank.backend = 'eager'
    runner = build_runner(cfg)
    kind = cfg.train_dataloader.dataset.type.rpartition('.')[2]
    image = {'img': np.zeros(VIEWS[kind], np.uint8)}
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        pipeline = cfg.train_dataloader.dataset.pipeline
        transform = Compose([step for step in pipeline if step['type'] != 'LoadImageFromFile'])
    batch = pseudo_collate([transform({**image, 'gt_label': label}) for label in (1, 3)])
    runner.model.train()
    losses = runner.model(**runner.model.data_preprocessor(batch, True), mode='loss')
    assert any('loss' in key for key in losses)
    assert ('distill.loss_rank' in losses) is ('-rank' in name)


@pytest.mark.parametrize(
    'name',
    [
        'coco/kd/kd-rank_logits_retinanet-r101_retinanet-r50_8xb2-1x_coco',
        'coco/dkd/dkd_logits_faster-rcnn-r101_faster-rcnn-r18_4xb2-180k_coco',
    ],
)
def test_detectors_keep_their_own_scope(name, tmp_path):
    needs_mmdet()
    cfg = inherited(name, tmp_path)
    assert cfg.default_scope == 'mmdet'
    check_distill_config(cfg)
    assert (REPOSITORY / 'configs' / f'{name}.py').is_file()
    build_runner(cfg)

"""Every config that can be started: its data, its model, one batch through both."""

from __future__ import annotations

import copy
import functools
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.evaluator import Evaluator
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, FUNCTIONS, MODELS, DefaultScope

from ..conftest import REPOSITORY, needs_mmdet

FOLDER = REPOSITORY / 'configs'
CONFIGS = sorted(
    path
    for path in FOLDER.glob('*/**/*.py')
    # tests/test_detection has those of COCO and Cityscapes, tests/test_docs those of own_data,
    # tests/test_tools those whose teacher is a table of scores.
    if '_scores_' not in path.name
    and path.relative_to(FOLDER).parts[0]
    not in ('_base_', 'studies', 'own_data', 'coco', 'cityscapes')
)


@functools.cache
def network(role: str, text: str) -> torch.nn.Module:
    """A network, built once for each role; a config states the loss apart."""
    return MODELS.build(json.loads(text))


def built_once(role: str, config: dict) -> torch.nn.Module:
    """The network of a config with the config's own loss."""
    config = copy.deepcopy(config)
    loss = config['head'].pop('loss', None)
    model = network(role, json.dumps(config))
    if loss is not None:
        model.head.loss_module = MODELS.build(loss)
    return model


def build_model(cfg: Config) -> torch.nn.Module:
    """The model of a config, without its teacher's weights."""
    config = copy.deepcopy(cfg.model)
    config.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    if 'distiller' not in config:
        return MODELS.build(config)
    config.teacher_ckpt = None
    for role in ('architecture', 'teacher'):
        if 'cfg_path' in config[role]:  # One of mmpretrain's configs, by name.
            config[role].pretrained = False
        else:  # mmrazor takes a network as well as the config of one.
            config[role] = built_once(role, config[role].to_dict())
    return MODELS.build(config)


@pytest.fixture(scope='module')
def images(tmp_path_factory) -> dict[str, dict]:
    """One image as each data set hands it to its pipeline."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp('images') / 'image.JPEG'
    cv2.imwrite(str(path), rng.integers(0, 255, (300, 260, 3), dtype=np.uint8))
    return {
        'Digits': {'img': rng.integers(0, 255, (8, 8, 1), dtype=np.uint8)},
        'CIFAR100': {'img': rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)},
        'ImageNet': {'img_path': str(path)},
    }


def two_samples(loader: Config, images: dict[str, dict], in_memory: str) -> dict:
    """A batch of two, by the config's own pipeline or by its data set in memory."""
    kind = loader.dataset.type.split('.')[-1]
    if 'pipeline' in loader.dataset:
        pipeline = Compose(loader.dataset.pipeline)
        return pseudo_collate([pipeline({**images[kind], 'gt_label': label}) for label in (1, 3)])
    if not Path(loader.dataset.data_root).is_absolute():
        loader.dataset.data_root = str(Path(in_memory) / Path(loader.dataset.data_root).name)
    elif not Path(loader.dataset.data_root).is_dir():
        pytest.skip(
            f'{loader.dataset.data_root} is missing: apt-get install dataset-fashion-mnist'
        )
    data = DATASETS.build(loader.dataset)
    return FUNCTIONS.get(loader.collate_fn.type)([data[1], data[3]])


@pytest.mark.parametrize(
    'path', CONFIGS, ids=lambda path: path.relative_to(FOLDER).with_suffix('').as_posix()
)
def test_data_and_model(path, images, in_memory):
    if 'pit-tiny' in path.name:
        pytest.importorskip('timm')
    if 'pvt-tiny' in path.name:
        needs_mmdet()
    cfg = Config.fromfile(path)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = build_model(cfg)
        batches = []
        for loader in (cfg.train_dataloader, cfg.val_dataloader):
            batches.append(two_samples(loader, images, in_memory))
        Evaluator(cfg.val_evaluator)
        build_optim_wrapper(model, cfg.optim_wrapper)
    training, validation = batches
    model.train()
    with torch.no_grad():
        losses = model(**model.data_preprocessor(training, training=True), mode='loss')
    expected = {'student.loss', 'distill.'} if 'distiller' in cfg.model else {'loss'}
    assert all(any(name.startswith(start) for name in losses) for start in expected)
    assert all(torch.isfinite(torch.as_tensor(value)).all() for value in losses.values())
    assert ('distill.loss_rank' in losses) is ('-rank' in path.name)
    (shape,) = {tuple(image.shape) for image in validation['inputs']}
    assert (
        shape[-1]
        == {'Digits': 8, 'CIFAR100': 32, 'ImageNet': 224, 'Glyphs': 32, 'FashionMNIST': 32}[
            cfg.val_dataloader.dataset.type.split('.')[-1]
        ]
    )
    # The last step of the learning rate lies within the training.
    schedulers = cfg.param_scheduler
    for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
        assert max(scheduler.get('milestones', [0])) < cfg.train_cfg.max_epochs


@functools.cache
def teacher_alone(checkpoint: str) -> Config:
    """The config whose training writes a checkpoint."""
    _, stem, file = checkpoint.split('/')
    cfg = settings(stem)
    assert file == f'epoch_{cfg.train_cfg.max_epochs}.pth'
    return cfg


@pytest.mark.parametrize(
    'path',
    sorted(
        path
        for dataset in ('cifar100', 'letters', 'kanji', 'fashion-mnist')
        for path in FOLDER.glob(f'_base_/pairs/*_{dataset}.py')
    ),
    ids=lambda path: path.stem,
)
def test_the_teacher_is_where_its_training_puts_it(path):
    pair = Config.fromfile(path)
    assert pair.teacher == teacher_alone(pair.teacher_ckpt).model


def settings(name: str) -> Config:
    (path,) = [path for path in CONFIGS if path.stem == name]
    return Config.fromfile(path)


@pytest.mark.parametrize(
    ('name', 'lr', 'epochs', 'options'),
    [
        ('kd_logits_vgg13_vgg8', 0.05, 240, dict(tau=4, loss_weight=0.9)),
        ('kd_logits_resnet50_mobilenet-v2', 0.01, 240, dict(tau=4, loss_weight=0.9)),
        ('ctkd_logits_resnet32x4_shufflenet-v2', 0.01, 240, dict(ramp_epochs=10, loss_weight=0.9)),
        ('dkd_logits_resnet56_resnet20', 0.05, 240, dict(beta=2.0, alpha=1.0, warmup_epochs=20)),
        ('dkd-rank_logits_vgg13_mobilenet-v2', 0.01, 240, dict(beta=6.0, temperature=4.0)),
        ('dkd_logits_wrn-40-2_wrn-40-1', 0.05, 240, dict(beta=6.0)),
        ('dkd_logits_resnet32x4_resnet8x4', 0.05, 240, dict(beta=8.0)),
        ('dkd_logits_resnet50_mobilenet-v2', 0.01, 240, dict(beta=8.0)),
        ('mlkd_logits_resnet32x4_resnet8x4', 0.025, 480, dict(loss_weight=0.9)),
        ('mlkd-rank_logits_vgg13_mobilenet-v2', 0.0025, 480, dict(loss_weight=0.9)),
        ('lskd_logits_resnet32x4_resnet8x4', 0.05, 240, dict(tau=2, loss_weight=9.0)),
        ('lskd_logits_vgg13_vgg8', 0.05, 240, dict(tau=3, loss_weight=9.0)),
        ('dist_logits_resnet110_resnet32', 0.05, 240, dict(tau=4, loss_weight=2.0)),
        ('wttm_logits_resnet110_resnet20', 0.05, 240, dict(temperature=5.0, loss_weight=4.0)),
        ('pld_logits_wrn-40-2_mobilenet-v2', 0.01, 240, dict(temperature=1.0, loss_weight=1.0)),
    ],
)
def test_published_values(name, lr, epochs, options):
    cfg = settings(f'{name}_1xb64_cifar100')
    assert cfg.optim_wrapper.optimizer == dict(type='SGD', lr=lr, momentum=0.9, weight_decay=5e-4)
    assert cfg.param_scheduler.milestones == [150, 180, 210]
    assert cfg.train_cfg.max_epochs == epochs
    assert cfg.train_dataloader.batch_size == 64
    (loss,) = cfg.model.distiller.distill_losses.values()
    assert {key: loss[key] for key in options} == options


@pytest.mark.parametrize(
    ('pair', 'lr'),
    [('resnet32x4_resnet8x4', 0.05), ('vgg13_vgg8', 0.01), ('resnet32x4_shufflenet-v2', 0.01)],
)
def test_published_values_of_mrkd(pair, lr):
    cfg = settings(f'mrkd_logits_{pair}_1xb64_cifar100')
    assert cfg.optim_wrapper.optimizer.lr == lr
    assert cfg.train_cfg.max_epochs == 240
    losses = cfg.model.distiller.distill_losses
    assert {loss.loss_weight for loss in losses.values()} == {32.0}
    assert cfg.model.architecture.head.loss.loss_weight == 1.0


def test_every_pair_has_every_method():
    def pairs(folder: str, start: str) -> set[str]:
        names = [path.stem for path in (FOLDER / folder).glob(f'*/{start}_logits_*.py')]
        assert len(names) == len(set(names))
        return {name.split('_logits_')[1].rsplit('_', 2)[0] for name in names}

    vits = {
        f'resnet56_{student}' for student in ('deit-tiny', 't2t-vit-7', 'pit-tiny', 'pvt-tiny')
    }
    for method in ('kd', 'ctkd', 'dkd', 'mlkd', 'lskd', 'dist'):
        for start in (method, f'{method}-rank'):
            found = pairs('cifar100', start)
            assert len(found - vits) == 14
            assert vits <= found
            assert pairs('imagenet', start) == {'resnet34_resnet18', 'resnet50_mobilenet-v1'}
    # No transformers, and those two that report figures have the pairs of these.
    for start, number in (('mrkd', 9), ('wttm', 10), ('wttm-rank', 10), ('pld', 14)):
        assert len(pairs('cifar100', start) - vits) == len(pairs('cifar100', start)) == number
    for start in ('mrkd', 'pld'):
        assert pairs('imagenet', start) == {'resnet34_resnet18', 'resnet50_mobilenet-v1'}
        assert not pairs('cifar100', f'{start}-rank')

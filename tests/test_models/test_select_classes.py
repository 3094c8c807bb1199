"""Classes are picked by number or by name, with the names of a checkpoint that a Runner wrote."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import Runner

from ..conftest import REPOSITORY

TYPE = 'mmkendall.SelectClasses'


@pytest.mark.parametrize('shape', [(3, 5), (0, 5), (2, 5, 4, 4)])
def test_by_number(shape):
    logits = torch.randn(shape)
    picked = MODELS.build(dict(type=TYPE, classes=[4, 0, 3]))(logits)
    assert torch.equal(picked, logits[:, [4, 0, 3]])


def test_by_name():
    connector = MODELS.build(dict(type=TYPE, classes=['d', 'a'], of=list('abcd'), dim=-1))
    assert torch.equal(connector(torch.arange(4.0)[None]), torch.tensor([[3.0, 0.0]]))
    assert connector.names == ('d', 'a')
    assert not connector.state_dict()


def test_two_classes_of_one_name():
    with pytest.raises(ValueError, match="2 classes in of are called 'crane'"):
        MODELS.build(dict(type=TYPE, classes=['crane'], of=['crane', 'bee', 'crane']))


def test_a_number_beyond_the_logits():
    connector = MODELS.build(dict(type=TYPE, classes=[1, 7]))
    with pytest.raises(ValueError, match=r'picks class 7, .* shape \(2, 7\) have 7 in dim=1'):
        connector(torch.zeros(2, 7))


@pytest.fixture
def teacher(tmp_path) -> str:
    """A checkpoint of a teacher that knows the ten digits and numbers them from 9 down."""
    cfg = Config.fromfile(str(REPOSITORY / 'configs/digits/resnet18-w16_1xb64_digits.py'))
    cfg.work_dir, cfg.train_cfg.max_epochs = str(tmp_path / 'teacher'), 1
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.update(indices=64, metainfo=dict(classes=tuple('9876543210')))
    cfg.test_dataloader = cfg.test_evaluator = cfg.test_cfg = None
    Runner.from_cfg(cfg).train()
    return str(tmp_path / 'teacher' / 'epoch_1.pth')


def test_a_teacher_that_numbers_the_classes_otherwise_teaches(teacher, tmp_path):
    name = 'kd-rank_logits_resnet18-w16_resnet18-w4_1xb64_digits.py'
    cfg = Config.fromfile(str(REPOSITORY / 'configs/digits' / name))
    cfg.work_dir, cfg.train_cfg.max_epochs = str(tmp_path / 'kd'), 1
    cfg.model.update(type='mmkendall.LogitDistill', teacher_ckpt=teacher)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.indices = 64
    distiller = cfg.model.distiller
    distiller.connectors = dict(pick=dict(type=TYPE, classes=tuple('0123456789'), of=teacher))
    for mapping in distiller.loss_forward_mappings.values():
        mapping.preds_T.connector = 'pick'
    runner = Runner.from_cfg(cfg)
    seen = {}

    def keep(name):
        def hook(module, inputs, output):
            seen[name] = output.detach()

        return hook

    model = runner.model
    model.teacher.head.fc.register_forward_hook(keep('teacher'))
    model.distiller.connectors['pick'].register_forward_hook(keep('picked'))
    runner.train()
    assert torch.equal(seen['picked'], seen['teacher'].flip(1))


@pytest.mark.parametrize(
    'options', [dict(classes=5), dict(classes='01'), dict(classes=['a'], of=5)]
)
def test_what_is_no_list(options):
    with pytest.raises(TypeError, match=r'(classes|of) must be a list or tuple, got'):
        MODELS.build(dict(type=TYPE, **options))


def test_a_checkpoint_that_names_no_classes(tmp_path):
    torch.save({'weight': torch.ones(1)}, tmp_path / 'plain.pth')
    with pytest.raises(ValueError, match=r'plain\.pth. does not name its classes: pass of='):
        MODELS.build(dict(type=TYPE, classes=['a'], of=str(tmp_path / 'plain.pth')))

"""The check before training: what cannot be right ends in one sentence, what is right passes."""

from __future__ import annotations

import copy
import re

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from mmkendall.engine.distill_config import (
    ConfigError,
    build_runner,
    check_distill_config,
    train,
)
from mmkendall.models.warn_once import warn_once

from ..conftest import REPOSITORY
from .wrong_configs import BUILT, TERMS

DIGITS = REPOSITORY / 'configs/digits'
PAIR = 'logits_resnet18-w16_resnet18-w4_1xb64_digits.py'


def small(cfg: Config, folder) -> Config:
    """A config on sixteen images, without validation."""
    cfg.train_dataloader.dataset.indices = 16
    cfg.train_dataloader.batch_size = 8
    cfg.train_cfg = dict(by_epoch=True, max_epochs=1)
    for name in ('dataloader', 'evaluator', 'cfg'):
        cfg[f'val_{name}'] = cfg[f'test_{name}'] = None
    cfg.visualizer.vis_backends = None
    cfg.work_dir = str(folder)
    cfg.log_level = 'WARNING'
    return cfg


@pytest.fixture(scope='module')
def teacher(tmp_path_factory) -> str:
    """The checkpoint of a teacher that was trained for an epoch of sixteen images."""
    folder = tmp_path_factory.mktemp('teacher')
    cfg = small(Config.fromfile(DIGITS / 'resnet18-w16_1xb64_digits.py'), folder)
    Runner.from_cfg(cfg).train()
    return str(folder / 'epoch_1.pth')


@pytest.fixture(scope='module')
def right(teacher, tmp_path_factory) -> Config:
    """A config that can be trained."""
    cfg = small(Config.fromfile(DIGITS / f'kd_{PAIR}'), tmp_path_factory.mktemp('run'))
    cfg.model.teacher_ckpt = teacher
    return cfg


@pytest.fixture(autouse=True)
def _warn_again():
    warn_once.cache_clear()


def check(cfg: Config) -> None:
    """All that tools/train.py does up to the first step."""
    check_distill_config(cfg)
    train(build_runner(cfg), stop_after_first=True)


def refusal(cfg: Config, checked=check) -> str:
    """The sentence with which a config is refused."""
    with pytest.raises(ConfigError) as refused:
        checked(cfg)
    message = str(refused.value)
    assert '\n' not in message
    assert 'Traceback' not in message
    return message


@pytest.mark.parametrize('index', range(len(TERMS)))
def test_a_config_that_cannot_be(index, right):
    mutate, words = TERMS[index]
    cfg = copy.deepcopy(right)
    mutate(cfg)
    message = refusal(cfg)
    assert re.search(words, message), message


@pytest.mark.parametrize('index', range(len(BUILT)))
def test_a_model_or_a_batch_that_cannot_be(index, right):
    mutate, words = BUILT[index]
    cfg = copy.deepcopy(right)
    mutate(cfg)
    message = refusal(cfg)
    assert re.search(words, message), message


def test_what_is_right_passes(right):
    check(copy.deepcopy(right))

"""Short runs of the digits pair: their checkpoints are those that mmengine's Runner writes."""

from __future__ import annotations

import itertools
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from .conftest import REPOSITORY

DIGITS = REPOSITORY / 'configs' / 'digits'
PAIR = 'kd_logits_resnet18-w16_resnet18-w4_1xb64_digits.py'
STUDENT = 'resnet18-w4_1xb64_digits.py'
TEACHER = 'resnet18-w16_1xb64_digits.py'
NUMBER = itertools.count()


def short_config(name: str, work_dir: Path, **options) -> Config:
    """A digits config of one epoch on 64 images, in two batches, and without a validation."""
    cfg = Config.fromfile(str(DIGITS / name))
    if name == PAIR:
        cfg.model.type = 'mmkendall.LogitDistill'
        cfg.model.teacher_ckpt = None
    cfg.train_dataloader.batch_size = 32
    cfg.train_dataloader.dataset.indices = 64
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = None
    cfg.train_cfg.max_epochs = 1
    cfg.randomness.seed = 0
    cfg.log_level = 'ERROR'
    cfg.work_dir = str(work_dir)
    # mmengine keeps what has one name, for instance message hubs.
    cfg.experiment_name = f'short_run_{next(NUMBER)}'
    cfg.merge_from_dict(options)
    return cfg


def short_run(name: str, work_dir: Path, **options) -> Runner:
    """The runner of such a config after it trained; ``epoch_1.pth`` is in its folder."""
    runner = Runner.from_cfg(short_config(name, work_dir, **options))
    runner.train()
    return runner

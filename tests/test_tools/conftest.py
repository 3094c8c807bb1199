"""A finished distillation, as the tools leave it: readers of checkpoints are tested on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..conftest import REPOSITORY, call_tool

DIGITS = REPOSITORY / 'configs' / 'digits'
TEACHER = DIGITS / 'resnet18-w16_1xb64_digits.py'
STUDENT = DIGITS / 'resnet18-w4_1xb64_digits.py'
DISTILL = """
_base_ = ['{base}']
model = dict(type='mmkendall.LogitDistill', teacher_ckpt='{folder}/teacher/epoch_1.pth')
train_dataloader = dict(dataset=dict(indices=320))
val_dataloader = dict(dataset=dict(indices=100))
test_dataloader = dict(dataset=dict(indices=100))
train_cfg = dict(max_epochs=3)
randomness = dict(seed=0)
default_hooks = dict(checkpoint=dict(
    type='CheckpointHook', interval=1, max_keep_ckpts=2, save_best='accuracy/top1'))
# So far behind that the averages and the weights as trained can be told apart.
custom_hooks = [
    dict(type='EMAHook', momentum=0.2, update_buffers=True),
    dict(type='mmkendall.StudentCheckpointHook')]
"""


@pytest.fixture(scope='session')
def finished_run(tmp_path_factory) -> Path:
    """A folder with teacher/, config.py and run/, the work directory of a run with an EMAHook."""
    folder = tmp_path_factory.mktemp('finished')
    base = DIGITS / 'kd_logits_resnet18-w16_resnet18-w4_1xb64_digits.py'
    (folder / 'config.py').write_text(DISTILL.format(base=base, folder=folder))
    short = ('train_cfg.max_epochs=1', 'train_dataloader.dataset.indices=320')
    with pytest.MonkeyPatch.context() as patch:
        for config, name, options in (
            (TEACHER, 'teacher', ('--cfg-options', *short, 'val_dataloader.dataset.indices=100')),
            (folder / 'config.py', 'run', ()),
        ):
            arguments = ('train.py', config, '--work-dir', folder / name, *options)
            assert call_tool(patch, *arguments) == 0
    return folder

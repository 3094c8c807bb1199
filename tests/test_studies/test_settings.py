"""What of a config a result depends on, and reading a dumped config without running it."""

from __future__ import annotations

import pytest
from mmengine.config import Config

from mmkendall.engine.errors import ConfigError
from mmkendall.engine.read_config import load_config
from mmkendall.studies.settings import (
    checkpoint_name,
    differences,
    fingerprint,
    read_dump,
)

from ..conftest import REPOSITORY

CONFIGS = (
    'digits/kd-rank_logits_resnet18-w16_resnet18-w4_1xb64_digits.py',
    'cifar100/mlkd/mlkd-rank_logits_resnet56_resnet20_1xb64_cifar100.py',
    'imagenet/dkd-rank_logits_resnet34_resnet18_8xb32_in1k.py',
)
PAIR = REPOSITORY / 'configs' / CONFIGS[0]


@pytest.mark.parametrize('name', CONFIGS)
def test_what_mmengine_dumps_is_the_config(name, tmp_path):
    cfg = Config.fromfile(str(REPOSITORY / 'configs' / name))
    cfg.dump(tmp_path / 'dumped.py')
    read = read_dump((tmp_path / 'dumped.py').read_text(), 'dumped.py')
    assert read == Config.fromfile(str(tmp_path / 'dumped.py')).to_dict()
    assert differences(cfg.to_dict(), read) == []
    assert fingerprint(cfg.to_dict()) == fingerprint(read)


@pytest.mark.parametrize(
    'text',
    [
        "model = __import__('os').system('touch ran')",
        "import os\nos.system('touch ran')",
        "model = dict(**open('ran', 'w'))",
        "model = dict([('type', 'a')])",
        "model = ['a' for _ in open('ran', 'w')]",
        "model['a'] = 1",
    ],
)
def test_a_dump_is_not_run(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r'config\.py is no config as mmengine dumps it'):
        read_dump(text, 'config.py')
    assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize(
    ('option', 'value'),
    [
        ('randomness.seed', 5),
        ('work_dir', 'elsewhere'),
        ('train_dataloader.num_workers', 8),
        ('train_dataloader.dataset.data_root', '/data'),
        ('default_hooks.checkpoint.interval', 10),
        ('teacher_ckpt', 'a.pth'),
        ('model.teacher_ckpt', '/home/me/resnet18-w16_1xb64_digits/epoch_12.pth'),
        ('auto_scale_lr.base_batch_size', 1),
        ('test_dataloader.batch_size', 1),
    ],
)
def test_what_no_result_depends_on(option, value):
    plain, other = load_config(str(PAIR)), load_config(str(PAIR))
    other.merge_from_dict({option: value})
    assert differences(plain, other) == []
    assert fingerprint(plain) == fingerprint(other)


@pytest.mark.parametrize(
    ('option', 'value', 'said'),
    [
        ('optim_wrapper.optimizer.lr', 0.1, 'optim_wrapper.optimizer.lr is 0.1 in place of 0.05'),
        ('train_dataloader.batch_size', 32, 'train_dataloader.batch_size is 32 in place of 64'),
        ('model.distiller.distill_losses.loss_rank.steepness', 2.0,
         'model.distiller.distill_losses.loss_rank.steepness is 2.0 in place of 1.0'),
        ('train_dataloader.dataset.indices', 9,
         'train_dataloader.dataset.indices is 9, and the config has none'),
        ('load_from', 'good.pth', "load_from is 'good.pth' in place of None"),
        ('custom_hooks', [dict(type='EMAHook')],
         "custom_hooks is [{'type': 'EMAHook'}], and the config has none"),
        ('auto_scale_lr.enable', True,
         "auto_scale_lr is {'base_batch_size': 64, 'enable': True}, and the config has none"),
        ('model.teacher_ckpt', 'work_dirs/resnet18-w4_1xb64_digits/epoch_12.pth',
         "model.teacher_ckpt is 'resnet18-w4_1xb64_digits/epoch_12.pth' in place of "
         "'resnet18-w16_1xb64_digits/epoch_12.pth'"),
    ],
)  # fmt: skip
def test_what_a_result_depends_on(option, value, said):
    plain, other = load_config(str(PAIR)), load_config(str(PAIR))
    other.merge_from_dict({option: value})
    assert differences(plain, other) == [said]
    assert fingerprint(plain) != fingerprint(other)


def test_a_checkpoint_is_called_by_what_tells_it_apart():
    assert checkpoint_name('/a/resnet56_vanilla/epoch_240.pth') == 'resnet56_vanilla/epoch_240.pth'
    url = 'https://download.openmmlab.com/x/resnet34_8xb32_in1k_20210831-f257d4e6.pth'
    assert checkpoint_name(url) == checkpoint_name(
        'cache/resnet34_8xb32_in1k_20210831-f257d4e6.pth'
    )

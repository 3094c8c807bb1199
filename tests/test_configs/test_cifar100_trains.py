"""Every method of configs/cifar100 trains on files in CIFAR-100's own format."""

from __future__ import annotations

import copy
import functools
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.datasets import CIFAR100

from ..conftest import REPOSITORY, run_tool

PAIR = 'resnet56_resnet20_1xb64_cifar100'
# What each method logs.
METHODS = {
    'kd': 'distill.loss_kl',
    'ctkd': 'distill.loss_ctkd',
    'dkd': 'distill.loss_dkd',
    'mlkd': 'distill.loss_mlkd',
    'lskd': 'distill.loss_kl',
    'dist': 'distill.loss_dist',
    'wttm': 'distill.loss_wttm',
    'mrkd': 'distill.loss_pearson',
    'pld': 'distill.loss_pld',
}
# Each without the ranking loss, and those with it that are no ranking themselves.
VARIANTS = [(method, False) for method in METHODS] + [
    (method, True) for method in METHODS if method not in ('mrkd', 'pld')
]


@pytest.fixture(scope='module')
def cifar100(tmp_path_factory) -> Path:
    """Eight images to train and eight to test, in CIFAR-100's pickles."""
    root = tmp_path_factory.mktemp('cifar100')
    folder = root / 'cifar-100-python'
    folder.mkdir()
    rng = np.random.default_rng(0)
    names = [f'class {index}' for index in range(100)]
    for split, count in (('train', 8), ('test', 8)):
        labels = rng.integers(0, 100, count).tolist()
        content = {
            'data': rng.integers(0, 256, (count, 3072), dtype=np.uint8),
            'fine_labels': labels,
            'coarse_labels': [label // 5 for label in labels],
            'filenames': [f'{split}_{index}.png' for index in range(count)],
            'batch_label': split,
        }
        (folder / split).write_bytes(pickle.dumps(content))
    meta = {'fine_label_names': names, 'coarse_label_names': names[:20]}
    (folder / 'meta').write_bytes(pickle.dumps(meta))
    return root


@pytest.fixture
def own_files(monkeypatch):
    """mmpretrain accepts other files than CIFAR-100's own: no checksum is asked of them."""
    monkeypatch.setattr(CIFAR100, 'train_list', [['train', None]])
    monkeypatch.setattr(CIFAR100, 'test_list', [['test', None]])
    monkeypatch.setattr(CIFAR100, 'meta', {**CIFAR100.meta, 'md5': None})


class Witness(Hook):
    """Keeps the weights of the start, what each iteration logged and the last gradients."""

    def __init__(self):
        self.records, self.gradients = [], {}

    def before_train(self, runner):
        self.state = copy.deepcopy(runner.model.state_dict())
        for name, value in runner.model.named_parameters():
            if value.requires_grad:
                value.register_hook(functools.partial(self.keep, name))

    def keep(self, name, gradient):
        self.gradients[name] = gradient.abs().max().item()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.records.append({name: value.item() for name, value in outputs.items()})


def train(name: str, cifar100: Path, work_dir: Path, **options) -> tuple[Runner, Witness]:
    """Trains a config on one batch, again and again, and validates it."""
    (path,) = (REPOSITORY / 'configs' / 'cifar100').glob(f'*/{name}.py')
    cfg = Config.fromfile(path)
    loaders = ('train_dataloader', 'val_dataloader', 'test_dataloader')
    cfg.merge_from_dict(
        {
            **{f'{loader}.dataset.data_root': str(cifar100) for loader in loaders},
            **{f'{loader}.num_workers': 0 for loader in loaders},
            **{f'{loader}.persistent_workers': False for loader in loaders},
            'train_cfg.max_epochs': 5,
            'train_cfg.val_interval': 5,
            'default_hooks.checkpoint.interval': 5,
            'param_scheduler': None,
            'optim_wrapper.optimizer.lr': 0.005,
            'randomness.seed': 0,
            'log_level': 'ERROR',
            'work_dir': str(work_dir),
            'experiment_name': f'test_{name}_{work_dir.name}',
            **options,
        }
    )
    runner = Runner.from_cfg(cfg)
    witness = Witness()
    runner.register_hook(witness)
    runner.train()
    assert all(math.isfinite(value) for record in witness.records for value in record.values())
    assert witness.records[-1]['loss'] < witness.records[0]['loss']
    assert 0 <= runner.message_hub.get_scalar('val/accuracy/top1').current() <= 100
    return runner, witness


# An untrained teacher, but one whose logits differ.
UNTRAINED = {
    'model.teacher_ckpt': None,
    'model.teacher.head.init_cfg': dict(type='Normal', layer='Linear', std=0.1, _delete_=True),
}


@pytest.mark.parametrize(('method', 'rank'), VARIANTS)
@pytest.mark.usefixtures('own_files')
def test_method(method, rank, cifar100, tmp_path):
    name = f'{method}{"-rank" if rank else ""}_logits_{PAIR}'
    options = dict(UNTRAINED)
    if method == 'dkd':
        # A weight that grows would hide that the loss falls.
        options['model.distiller.distill_losses.loss_dkd.warmup_epochs'] = 0
    runner, witness = train(name, cifar100, tmp_path, **options)
    terms = {'student.loss', METHODS[method]} | ({'distill.loss_rank'} if rank else set())
    assert all(terms <= record.keys() for record in witness.records)
    if method == 'pld':  # It has the cross-entropy inside.
        terms.remove('student.loss')
    assert all(record[term] != 0 for record in witness.records for term in terms)
    for key, value in runner.model.state_dict().items():
        if key.startswith('teacher.'):
            assert torch.equal(value, witness.state[key]), key
    assert not [name for name in witness.gradients if name.startswith('teacher.')]
    for name, _ in runner.model.architecture.named_parameters():
        assert 0 < witness.gradients[f'architecture.{name}'] < math.inf, name


@pytest.mark.usefixtures('own_files')
def test_vision_transformer(cifar100, tmp_path):
    name = 'lskd-rank_logits_resnet56_deit-tiny_1xb128_cifar100'
    options = {**UNTRAINED, 'optim_wrapper.optimizer.lr': 5e-4}
    runner, witness = train(name, cifar100, tmp_path, **options)
    assert {'distill.loss_kl', 'distill.loss_rank'} <= witness.records[0].keys()
    for name, _ in runner.model.architecture.named_parameters():
        assert 0 < witness.gradients[f'architecture.{name}'] < 1e3, name


@pytest.mark.usefixtures('own_files')
def test_teacher_alone_teaches(cifar100, tmp_path):
    alone, _ = train('resnet56_1xb64_cifar100', cifar100, tmp_path / 'teacher')
    checkpoint = tmp_path / 'teacher' / 'epoch_5.pth'
    runner, _ = train(
        f'kd_logits_{PAIR}',
        cifar100,
        tmp_path / 'student',
        **{'model.teacher_ckpt': str(checkpoint)},
    )
    trained = alone.model.state_dict()
    for key, value in runner.model.teacher.state_dict().items():
        assert torch.equal(value, trained[key]), key


def test_starts_by_name_from_any_folder(tmp_path):
    """As far as the teacher, which is not there."""
    name = f'mmkendall::cifar100/kd/kd-rank_logits_{PAIR}.py'
    done = run_tool('train.py', name, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "'work_dirs/resnet56_1xb64_cifar100/epoch_240.pth' does not exist" in done.stderr


@pytest.mark.usefixtures('own_files')
@pytest.mark.parametrize('split', ['train', 'test'])
def test_data_set_reads_the_format(split, cifar100):
    data = CIFAR100(data_root=str(cifar100), split=split)
    content = pickle.loads((cifar100 / 'cifar-100-python' / split).read_bytes())
    assert [data[index]['gt_label'] for index in range(len(data))] == content['fine_labels']
    # Red first, row by row.
    assert data[0]['img'][1, 2, 0] == content['data'][0, 32 + 2]


def test_other_files_are_refused(cifar100):
    with pytest.raises(RuntimeError, match='Cannot find CIFAR100 dataset'):
        CIFAR100(data_root=str(cifar100), split='train', download=False)

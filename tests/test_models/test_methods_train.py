"""Every method of configs/digits, without and with the ranking loss, trains as it stands."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from ..conftest import REPOSITORY

PAIR = 'resnet18-w16_resnet18-w4_1xb64_digits'
# The names of the losses that each method logs.
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
    'listmle': 'distill.loss_listmle',
    'bild': 'distill.loss_bild',
}
# Each without the ranking loss, and those with it that are no ranking themselves.
VARIANTS = [(method, False) for method in METHODS] + [
    (method, True) for method in METHODS if method not in ('mrkd', 'pld', 'listmle', 'bild')
]


class Witness(Hook):
    """Keeps the weights of the start and what each iteration logged."""

    def __init__(self):
        self.records = []

    def before_train(self, runner):
        self.state = copy.deepcopy(runner.model.state_dict())

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.records.append({name: value.item() for name, value in outputs.items()})


def train(name: str, folder: Path, epochs: int, **options) -> tuple[nn.Module, Witness]:
    """Trains a config of the digits on one batch, again and again."""
    cfg = Config.fromfile(REPOSITORY / f'configs/digits/{name}_logits_{PAIR}.py')
    cfg.merge_from_dict(
        {
            # An untrained teacher, but one whose logits differ.
            'model.teacher_ckpt': None,
            'model.teacher.head.init_cfg': dict(type='Normal', layer='Linear', std=1.0),
            'train_dataloader.dataset.indices': 32,
            'val_dataloader.dataset.indices': 50,
            'train_cfg.max_epochs': epochs,
            'train_cfg.val_interval': epochs,
            'default_hooks.checkpoint.interval': epochs,
            'param_scheduler': None,
            'optim_wrapper.optimizer.lr': 0.01,
            'randomness.seed': 0,
            'log_level': 'ERROR',
            'work_dir': str(folder),
            'experiment_name': folder.name,
            **options,
        }
    )
    runner = Runner.from_cfg(cfg)
    witness = Witness()
    runner.register_hook(witness)
    runner.train()
    return runner.model, witness


@pytest.mark.parametrize(('method', 'rank'), VARIANTS)
def test_trains(method, rank, tmp_path):
    model, witness = train(f'{method}{"-rank" if rank else ""}', tmp_path, epochs=8)
    before, records = witness.state, witness.records

    terms = {'student.loss', METHODS[method]} | ({'distill.loss_rank'} if rank else set())
    assert all(terms <= record.keys() for record in records)
    if method == 'pld':  # It has the cross-entropy inside.
        terms.remove('student.loss')
    assert all(math.isfinite(value) for record in records for value in record.values())
    assert all(record[name] != 0 for record in records for name in terms)
    after = model.state_dict()
    for key, value in after.items():
        if key.startswith('teacher.'):
            assert torch.equal(value, before[key]), key
    student = [name for name, _ in model.architecture.named_parameters()]
    assert all((after[f'architecture.{n}'] != before[f'architecture.{n}']).any() for n in student)
    if method == 'ctkd':
        theta = 'distiller.distill_losses.loss_ctkd.theta'
        assert after[theta] != before[theta]
    assert records[-1]['loss'] < records[0]['loss']


def test_schedule_turns_the_ranking_loss_off(tmp_path):
    hook = dict(type='mmkendall.RankWeightSchedule', schedule='first', epochs=2)
    _, witness = train('lskd-rank', tmp_path, epochs=4, custom_hooks=[hook])
    terms = [record['distill.loss_rank'] for record in witness.records]
    assert [term > 0 for term in terms] == [True, True, False, False]
    assert all(record['distill.loss_kl'] > 0 for record in witness.records)

"""Every method of configs/digits, without and with the ranking loss, trains as it stands."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

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
}


class Witness(Hook):
    """Keeps the weights of the start and what each iteration logged."""

    def __init__(self):
        self.records = []

    def before_train(self, runner):
        self.state = copy.deepcopy(runner.model.state_dict())

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.records.append({name: value.item() for name, value in outputs.items()})


@pytest.mark.parametrize('rank', [False, True], ids=['plain', 'rank'])
@pytest.mark.parametrize('method', METHODS)
def test_trains(method, rank, tmp_path):
    name = f'{method}{"-rank" if rank else ""}_logits_{PAIR}'
    cfg = Config.fromfile(REPOSITORY / f'configs/digits/{name}.py')
    cfg.merge_from_dict(
        {
            # An untrained teacher, but one whose logits differ.
            'model.teacher_ckpt': None,
            'model.teacher.head.init_cfg': dict(type='Normal', layer='Linear', std=1.0),
            # One batch, again and again.
            'train_dataloader.dataset.indices': 64,
            'val_dataloader.dataset.indices': 50,
            'train_cfg.max_epochs': 8,
            'train_cfg.val_interval': 8,
            'default_hooks.checkpoint.interval': 8,
            'param_scheduler': None,
            'optim_wrapper.optimizer.lr': 0.01,
            'randomness.seed': 0,
            'log_level': 'ERROR',
            'work_dir': str(tmp_path),
            'experiment_name': f'test_{name}',
        }
    )
    runner = Runner.from_cfg(cfg)
    witness = Witness()
    runner.register_hook(witness)
    runner.train()
    model, before, records = runner.model, witness.state, witness.records

    terms = {'student.loss', METHODS[method]} | ({'distill.loss_rank'} if rank else set())
    assert all(terms <= record.keys() for record in records)
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

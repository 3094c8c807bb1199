from __future__ import annotations

import json
import math

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from mmkendall.engine.hooks import RankWeightSchedule
from mmkendall.models import KendallRankLoss


class Model(BaseModel):
    """A student with a fixed teacher; notes the weight that the loss has at each iteration."""

    def __init__(self, num_losses: int = 1):
        super().__init__()
        self.fc = nn.Linear(3, 4)
        losses = {
            f'loss_{i}': KendallRankLoss(1.0, loss_weight=i + 0.9) for i in range(num_losses)
        }
        self.rank_losses = nn.ModuleDict(losses)
        self.seen = []

    def forward(self, inputs, mode):
        self.seen.append([loss.loss_weight for loss in self.rank_losses.values()])
        preds = self.fc(inputs)
        terms = {name: loss(preds, 9 * inputs @ torch.ones(3, 4))
                 for name, loss in self.rank_losses.items()}  # fmt: skip
        return {**terms, 'loss_task': preds.square().mean()}


def run(folder, hook: dict, model: Model | None = None, epochs: int = 4, **options) -> Model:
    """Four epochs of five iterations."""
    model = model or Model()
    loader = dict(
        dataset=[torch.randn(3) for _ in range(10)], batch_size=2,
        sampler=dict(type='DefaultSampler', shuffle=False), collate_fn=_stack,
    )  # fmt: skip
    options = dict(train_cfg=dict(by_epoch=True, max_epochs=epochs), **options)
    Runner(
        model=model, work_dir=str(folder), train_dataloader=loader,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        custom_hooks=[dict(type='mmkendall.RankWeightSchedule', **hook)],
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
        experiment_name=str(folder.name), log_level='ERROR', **options,
    ).train()  # fmt: skip
    return model


def _stack(images):
    return {'inputs': torch.stack(images)}


def cosine(i: float, n: float, final: float) -> float:
    return final + (1 - final) * (1 + math.cos(math.pi * min(i / n, 1))) / 2


@pytest.mark.parametrize(
    ('hook', 'expected'),
    [
        (dict(), lambda i: 1),
        (dict(schedule='linear_warmup', epochs=2), lambda i: min((i + 1) / 10, 1)),
        (dict(schedule='linear_warmup', iters=4), lambda i: min((i + 1) / 4, 1)),
        (dict(schedule='linear_decay'), lambda i: 1 - i / 20),
        (
            dict(schedule='linear_decay', epochs=0.8, final_factor=0.2),
            lambda i: 1 - 0.8 * min(i / 4, 1),
        ),
        (
            dict(schedule='cosine_decay', epochs=3, final_factor=0.1),
            lambda i: cosine(i, 15, 0.1),
        ),
        (dict(schedule='first', epochs=1), lambda i: float(i < 5)),
        (dict(schedule='last', epochs=1), lambda i: float(i >= 15)),
        (dict(schedule='last', iters=7), lambda i: float(i >= 13)),
    ],
)
def test_weight_at_each_iteration(hook, expected):
    built = HOOKS.build(dict(type='mmkendall.RankWeightSchedule', **hook))
    model = Model()
    runner = _StandIn(model)
    built.before_train(runner)
    for runner.iter in range(20):
        built.before_train_iter(runner, runner.iter % 5)
        assert model.rank_losses['loss_0'].loss_weight == pytest.approx(
            0.9 * expected(runner.iter)
        )
        assert runner.logged == {'train/rank_weight': model.rank_losses['loss_0'].loss_weight}
    built.after_train(runner)
    assert model.rank_losses['loss_0'].loss_weight == 0.9


class _StandIn:
    """As much of a runner as the hook reads: four epochs of five iterations."""

    max_iters, max_epochs, train_loop = 20, 4, None

    def __init__(self, model):
        self.model = model
        self.message_hub = self
        self.logged = {}

    def update_scalar(self, name, value):
        self.logged[name] = value


def test_trains_logs_and_resumes(tmp_path):
    hook = dict(schedule='linear_decay', epochs=4)
    whole = run(tmp_path / 'whole', hook)
    weights = [weight for (weight,) in whole.seen]
    assert weights == pytest.approx([0.9 * (1 - i / 20) for i in range(20)])
    (log,) = (tmp_path / 'whole').glob('*/vis_data/scalars.json')
    logged = [json.loads(line)['rank_weight'] for line in log.read_text().splitlines()]
    assert logged == pytest.approx(weights)
    assert whole.rank_losses['loss_0'].loss_weight == 0.9
    rest = run(
        tmp_path / 'rest', hook, resume=True, load_from=str(tmp_path / 'whole' / 'epoch_2.pth')
    )
    assert [weight for (weight,) in rest.seen] == pytest.approx(weights[10:])


def test_several_losses_keep_their_proportion():
    model = Model(num_losses=2)
    runner = _StandIn(model)
    hook = RankWeightSchedule('linear_decay')
    hook.before_train(runner)
    runner.iter = 5
    hook.before_train_iter(runner, 0)
    expected = {'train/rank_weight_loss_0': 0.75 * 0.9, 'train/rank_weight_loss_1': 0.75 * 1.9}
    assert runner.logged == pytest.approx(expected)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'schedule': 'cosine'}, r"schedule must be one of .*got 'cosine'"),
        ({'schedule': 'first'}, "schedule='first' needs epochs or iters"),
        ({'schedule': 'last'}, "schedule='last' needs epochs or iters"),
        ({'schedule': 'constant', 'epochs': 3}, "'constant' schedule has no epochs"),
        ({'schedule': 'linear_decay', 'epochs': 3, 'iters': 9}, 'epochs or iters, not both'),
        ({'schedule': 'linear_decay', 'epochs': -1}, 'epochs must be positive, got -1'),
        ({'schedule': 'linear_decay', 'iters': 2.5}, 'iters must be positive, got 2.5'),
        ({'schedule': 'linear_decay', 'final_factor': 1}, 'below 1, got 1'),
        ({'schedule': 'first', 'epochs': 1, 'final_factor': 0.5}, "decays, not for 'first'"),
    ],
)
def test_refuses_options(options, message):
    with pytest.raises(ValueError, match=message):
        RankWeightSchedule(**options)


def test_refuses_trainings(tmp_path):
    with pytest.raises(ValueError, match='25 iterations long, longer than the training of 20'):
        run(tmp_path / 'long', dict(schedule='linear_warmup', epochs=5))
    with pytest.raises(ValueError, match=r'found no mmkendall\.KendallRankLoss'):
        run(tmp_path / 'none', {}, Model(num_losses=0))
    runner = Runner(
        model=Model(), work_dir=str(tmp_path), train_cfg=dict(by_epoch=False, max_iters=20),
        train_dataloader=dict(
            dataset=[torch.randn(3) for _ in range(10)], batch_size=2, collate_fn=_stack,
            sampler=dict(type='InfiniteSampler'),
        ),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        custom_hooks=[dict(type='mmkendall.RankWeightSchedule', schedule='first', epochs=1)],
        experiment_name='iterations', log_level='ERROR',
    )  # fmt: skip
    with pytest.raises(ValueError, match='IterBasedTrainLoop counts iterations: pass iters'):
        runner.train()

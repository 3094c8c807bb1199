"""The figures are those of the definition, and the weights are those of a run without the hook."""

from __future__ import annotations

import copy
import json
import math
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS, OPTIM_WRAPPERS
from mmengine.runner import Runner
from scipy.stats import kendalltau

from mmkendall import kendall_rank_loss
from mmkendall.engine.distill_figures import pair_figures
from mmkendall.engine.logit_groups import log_labels
from mmkendall.functional import live_pair_share, pair_shares
from mmkendall.models import KendallRankLoss

from ..conftest import REPOSITORY

FIGURES = (
    'diag/tau', 'diag/live_pairs', 'diag/live_wrong_pairs', 'diag/low_half_logit',
    'diag/low_half_rank', 'diag/norm_ratio',
)  # fmt: skip
LSKD = 'lskd-rank_logits_resnet18-w16_resnet18-w4_1xb64_digits.py'
KD = 'kd-rank_logits_resnet18-w16_resnet18-w4_1xb64_digits.py'
SMALL = dict(backbone=dict(stem_channels=8, base_channels=8, depth=18), head=dict(in_channels=64))
ITERATIONS = dict(type='IterBasedTrainLoop', max_iters=6)


@OPTIM_WRAPPERS.register_module()
class CpuAutocast(OptimWrapper):
    """Mixed precision with a loss scale, where mmengine's own asks for an accelerator."""

    loss_scaler = SimpleNamespace(get_scale=lambda: 1024.0)

    @contextmanager
    def optim_context(self, model):
        with super().optim_context(model), torch.autocast('cpu', dtype=torch.bfloat16):
            yield


def config(folder, name: str = KD, hook: dict | None = None, **options) -> Config:
    """A digits config for six iterations of 32 images, logged one by one."""
    cfg = Config.fromfile(str(REPOSITORY / 'configs/digits' / name))
    cfg.merge_from_dict(
        {
            'model.teacher_ckpt': None,
            'model.teacher': SMALL,
            'train_dataloader.batch_size': 32,
            'train_dataloader.dataset.indices': 96,
            'train_cfg.max_epochs': 2,
            'default_hooks.logger.interval': 1,
            'default_hooks.checkpoint': dict(type='CheckpointHook', interval=100),
            'randomness.seed': 0,
            'log_level': 'ERROR',
            **options,
        }
    )
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = None
    cfg.work_dir = str(folder)
    # mmengine's own name has the second of the start, and two runs start in one.
    cfg.experiment_name = uuid4().hex
    cfg.custom_hooks = (
        [] if hook is None else [dict(type='mmkendall.DistillDiagnosticsHook', **hook)]
    )
    return cfg


def train(cfg: Config) -> tuple[dict, list[dict]]:
    """The weights at the end, and what was logged of each iteration."""
    runner = Runner.from_cfg(cfg)
    runner.train()
    lines = (Path(runner.log_dir) / 'vis_data' / 'scalars.json').read_text().splitlines()
    return runner.model.state_dict(), [json.loads(line) for line in lines]


class Spy:
    """Keeps the logits of the last batch."""

    def __init__(self, model):
        def keep(module, inputs, output):
            self.student = output.detach()

        model.architecture.head.fc.register_forward_hook(keep)
        model.teacher.head.fc.register_forward_hook(
            lambda module, inputs, output: setattr(self, 'teacher', output.clone())
        )


def two_teachers(cfg: Config) -> Config:
    teacher = cfg.model.pop('teacher')
    cfg.model.pop('teacher_ckpt')
    cfg.model.type = 'mmkendall.LogitDistill'
    cfg.model.teacher = [dict(model=copy.deepcopy(teacher), weight=w) for w in (3.0, 1.0)]
    return cfg


@pytest.mark.parametrize(
    ('name', 'options'),
    [
        (KD, dict()),
        (KD, {'optim_wrapper.type': 'CpuAutocast', 'model.type': 'mmkendall.LogitDistill'}),
        (LSKD, dict()),
        ('ctkd-rank_logits_resnet18-w16_resnet18-w4_1xb64_digits.py', dict()),
        ('two teachers', {'train_cfg': ITERATIONS}),
    ],
)
def test_training_stays_the_same_to_the_bit(name, options, tmp_path):
    runs = []
    for hook in (None, dict(interval=2)):
        cfg = config(tmp_path / str(hook), KD if name == 'two teachers' else name, hook, **options)
        if 'train_cfg' in options:
            cfg.train_cfg = dict(**ITERATIONS)
            cfg.param_scheduler = None
        runs.append(train(two_teachers(cfg) if name == 'two teachers' else cfg))
    (expected, plain), (weights, records) = runs
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[key], expected[key]) for key in weights)
    assert len(plain) == len(records) == 6
    for record, without in zip(records, plain, strict=True):
        assert {key for key in record if not key.startswith('diag/')} == without.keys()
        assert record['loss'] == without['loss']
    # Measured at the second iteration of each two, so the first line has none yet.
    assert not [key for key in records[0] if key.startswith('diag/')]
    for record in records[1:]:
        assert all(math.isfinite(record[figure]) for figure in FIGURES)
        assert -1 <= record['diag/tau'] <= 1
    assert [records[2][figure] for figure in FIGURES] == [records[1][figure] for figure in FIGURES]
    assert [records[3][figure] for figure in FIGURES] != [records[1][figure] for figure in FIGURES]


def pairs_by_hand(student, teacher, k: float, surrogate='product') -> tuple[float, float]:
    """Shares of live pairs, one pair after the other: of all, and of the wrong ones."""
    live = wrong = both = count = 0
    for s, t in zip(student.double().tolist(), teacher.double().tolist(), strict=True):
        for i, j in combinations(range(len(s)), 2):
            if surrogate == 'logistic':
                right_by = k * (s[i] - s[j]) * ((t[i] > t[j]) - (t[i] < t[j]))
                is_live = t[i] != t[j] and 1 / (1 + math.exp(right_by)) > 1e-3
            else:
                is_live = 1 - math.tanh(k * (s[i] - s[j])) ** 2 > 1e-3
            is_wrong = (s[i] - s[j]) * (t[i] - t[j]) < 0
            live, wrong, both = live + is_live, wrong + is_wrong, both + (is_live and is_wrong)
            count += 1
    return live / count, both / wrong


@pytest.mark.parametrize('kind', ['mmrazor.SingleTeacherDistill', 'mmkendall.LogitDistill'])
def test_figures(kind, tmp_path):
    cfg = config(tmp_path, KD, dict(interval=1), **{'model.type': kind, 'train_cfg.max_epochs': 1})
    losses = cfg.model.distiller.distill_losses
    losses.loss_rank.update(steepness=60.0, loss_weight=2.0)
    runner = Runner.from_cfg(cfg)
    spy = Spy(runner.model)
    runner.train()
    logged = {name: runner.message_hub.get_scalar(f'train/{name}').current() for name in FIGURES}

    student, teacher = spy.student.requires_grad_(), spy.teacher
    kl = (
        0.9
        * 16
        * F.kl_div(F.log_softmax(student / 4, 1), F.softmax(teacher / 4, 1), reduction='batchmean')
    )
    rank = 2.0 * kendall_rank_loss(student, teacher, 60.0, backend='reference')
    (grad_kl,) = torch.autograd.grad(kl, student)
    (grad_rank,) = torch.autograd.grad(rank, student)
    taus = [
        kendalltau(s, t).statistic
        for s, t in zip(student.detach().numpy(), teacher.numpy(), strict=True)
    ]
    live, live_wrong = pairs_by_hand(student, teacher, 60.0)
    low = teacher.argsort(dim=1)[:, :5]

    def low_half(grad):
        return (grad.abs().gather(1, low).sum() / grad.abs().sum()).item()

    expected = [
        np.mean(taus), live, live_wrong, low_half(grad_kl), low_half(grad_rank),
        (grad_rank.norm() / grad_kl.norm()).item(),
    ]  # fmt: skip
    assert list(logged.values()) == pytest.approx(expected, rel=1e-4)
    assert 0 < live_wrong < 1


def test_pair_shares():
    student, teacher = torch.randn(2, 3, 7, 4)
    student[0, 1] = student[0, 2]
    shares = pair_shares(student, teacher, 0.8)
    assert shares.live.shape == (3, 4)
    torch.testing.assert_close(shares.live, live_pair_share(student, 0.8))
    live, live_wrong = pairs_by_hand(
        *(logits.movedim(1, -1).reshape(-1, 7) for logits in (student, teacher)), 0.8
    )
    assert shares.live.mean().item() == pytest.approx(live)
    assert (shares.wrong_live.sum() / shares.wrong.sum()).item() == pytest.approx(live_wrong)
    ordered = teacher.round()
    shares = pair_shares(student, ordered, 8.0, 'logistic')
    live, live_wrong = pairs_by_hand(
        *(logits.movedim(1, -1).reshape(-1, 7) for logits in (student, ordered)), 8.0, 'logistic'
    )
    assert 0 < live < 1
    assert live_wrong == 1
    assert shares.live.mean().item() == pytest.approx(live)
    assert torch.equal(shares.wrong_live, shares.wrong)
    # tanh(k ds dt): the same gaps, seen through the teacher's.
    row = torch.tensor([[0.0, 1.0]])
    assert pair_shares(row, -1e-3 * row, 100, 'diffkendall') == (1, 1, 1)
    assert pair_shares(row, -1e-3 * row, 100, 'product') == (0, 1, 0)
    assert pair_shares(row[:, :1], row[:, :1]) == (1, 0, 0)
    with pytest.raises(ValueError, match='surrogate must be one of'):
        pair_shares(row, row, surrogate='sign')
    with pytest.raises(ValueError, match='same shape and device, got'):
        pair_shares(row, row.t())


def test_pair_shares_of_the_classes_that_count():
    student, teacher = torch.randn(2, 2, 9)
    some = [0, 1, 5, 6, 7, 8]
    expected = pair_shares(student[:1, some], teacher[:1, some])
    hidden = torch.ones(2, 9, dtype=torch.bool)
    hidden[0, some] = hidden[1, 3] = False
    student, teacher = (preds.masked_fill(hidden, -math.inf) for preds in (student, teacher))
    for share, of_first, of_none in zip(
        pair_shares(student, teacher), expected, (1, 0, 0), strict=True
    ):
        assert share.tolist() == pytest.approx([of_first.item(), of_none])
    # In the teacher alone it is a class like any other, the last one.
    student, teacher = torch.randn(2, 1, 5)
    lowest = teacher.clone()
    teacher[0, 2], lowest[0, 2] = -math.inf, -1e4
    assert pair_shares(student, teacher) == pair_shares(student, lowest)


@pytest.mark.parametrize('across', ['classes', 'batch'])
@pytest.mark.parametrize('options', [{}, {'topk': 3}, {'mink': 0.5, 'standardize': True}])
def test_figures_are_of_what_the_loss_ranks(across, options):
    loss = KendallRankLoss(steepness=2.0, across=across, **options)
    student, teacher = torch.randn(2, 6, 8)
    images = torch.tensor([True, True, False, True, True, True])
    classes = torch.tensor([True, False, True, True, True, False, True, True])
    expected = pair_figures(
        loss, *(preds[images][:, classes] for preds in (student, teacher)), None, None
    )
    student[2], teacher[:, 1] = math.nan, math.nan
    every = classes.expand(6, 8)
    for class_mask in (classes, every):
        found = pair_figures(loss, student, teacher, images, class_mask)
        assert torch.stack(found).tolist() == pytest.approx(torch.stack(expected).tolist())


@pytest.mark.parametrize('interval', [0, -1, 1.5, True])
def test_an_interval_that_cannot_be(interval):
    with pytest.raises(ValueError, match='interval must be a positive whole number, got'):
        HOOKS.build(dict(type='mmkendall.DistillDiagnosticsHook', interval=interval))


def test_figures_end_where_distillation_is_stopped(tmp_path):
    cfg = config(tmp_path, KD, dict(interval=1))
    cfg.custom_hooks.append(dict(type='mmrazor.StopDistillHook', stop_epoch=1))
    _, records = train(cfg)
    assert [any(key.startswith('diag/') for key in record) for record in records] == (
        [True] * 3 + [False] * 3
    )


def test_figures_are_not_resumed(tmp_path):
    """Without the hook a resumed run would repeat the last figures to its end."""
    cfg = config(tmp_path / 'first', KD, dict(interval=1), **{'train_cfg.max_epochs': 1})
    cfg.default_hooks.checkpoint.interval = 1
    train(cfg)
    stopped = str(tmp_path / 'first' / 'epoch_1.pth')
    _, records = train(config(tmp_path / 'second', KD, resume=True, load_from=stopped))
    assert [record['step'] for record in records] == [4, 5, 6]
    assert not [key for record in records for key in record if key.startswith('diag/')]


def test_names_in_the_log():
    names = ['loss_rank', 'rank_loss', 'my_loss_of_time', 'loss']
    assert log_labels(names) == ['rank', 'rank_1', 'myof', 'l']


def test_a_logit_loss_alone_and_several_ranking_losses(tmp_path):
    cfg = config(tmp_path / 'one', KD, dict(interval=1), **{'train_cfg.max_epochs': 1})
    del cfg.model.distiller.distill_losses['loss_rank']
    del cfg.model.distiller.loss_forward_mappings['loss_rank']
    _, records = train(cfg)
    figures = {key for key in records[-1] if key.startswith('diag/')}
    assert figures == {'diag/tau', 'diag/low_half_logit'}

    cfg = config(tmp_path / 'two', KD, dict(interval=1), **{'train_cfg.max_epochs': 1})
    losses, mappings = (
        cfg.model.distiller[name] for name in ('distill_losses', 'loss_forward_mappings')
    )
    mappings.loss_batch = mappings.loss_rank
    losses.loss_batch = dict(type='mmkendall.KendallRankLoss', across='batch', topk=8)
    _, records = train(cfg)
    figures = {key for key in records[-1] if key.startswith('diag/')}
    assert {'diag/live_pairs_rank', 'diag/live_wrong_pairs_batch'} < figures
    # mmengine would train what has it in its name, and average it in the log.
    assert not [figure for figure in figures if 'loss' in figure]


def test_models_that_have_nothing_to_show(tmp_path):
    plain = config(tmp_path, KD, dict(interval=1))
    plain.model = plain.model.architecture
    with pytest.raises(ValueError, match='needs a model with a ConfigurableDistiller, and this'):
        train(plain)
    cfg = config(tmp_path, KD, dict(interval=1))
    cfg.model.distiller.distill_losses = dict(loss_l2=dict(type='L2Loss'))
    reads = cfg.model.distiller.loss_forward_mappings.pop('loss_rank')
    cfg.model.distiller.loss_forward_mappings = dict(
        loss_l2=dict(s_feature=reads.preds_S, t_feature=reads.preds_T)
    )
    with pytest.raises(ValueError, match='found no loss on logits that it knows'):
        train(cfg)

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.registry import DefaultScope
from mmrazor.models.distillers import ConfigurableDistiller
from mmrazor.registry import MODELS
from torch import nn

from mmkendall import kendall_rank_loss

LOGITS = dict(fc=dict(type='ModuleOutputs', source='fc'))
KL = dict(
    preds_S=dict(from_student=True, recorder='fc'), preds_T=dict(from_student=False, recorder='fc')
)
DIST = dict(logits_S=KL['preds_S'], logits_T=KL['preds_T'])


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 6)

    def forward(self, x):
        return self.fc(x)


def build(losses: dict, mappings: dict, **options) -> ConfigurableDistiller:
    # As in a config: mmpretrain's scope around, the distiller's own inside.
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(
            dict(
                _scope_='mmrazor', type='mmkendall.RankAugmentedDistiller',
                student_recorders=LOGITS, teacher_recorders=LOGITS,
                distill_losses=losses, loss_forward_mappings=mappings, **options,
            )
        )  # fmt: skip


def losses_of(distiller, student: nn.Module, teacher: nn.Module, images: torch.Tensor) -> dict:
    distiller.prepare_from_student(student)
    distiller.prepare_from_teacher(teacher)
    with distiller.teacher_recorders, torch.no_grad():
        teacher(images)
    with distiller.student_recorders:
        student(images)
    return distiller.compute_distill_losses()


def test_adds_the_term_with_the_weight_of_the_logit_loss():
    student, teacher, images = Classifier(), Classifier(), torch.randn(5, 3)
    distiller = build(
        dict(loss_kl=dict(type='KLDivergence', tau=4, loss_weight=0.9)), dict(loss_kl=KL),
        rank_weight=0.5, rank_loss=dict(steepness=2.0),
    )  # fmt: skip
    assert isinstance(distiller, ConfigurableDistiller)
    losses = losses_of(distiller, student, teacher, images)
    assert list(losses) == ['loss_kl', 'loss_rank']
    term = kendall_rank_loss(student(images), teacher(images), 2.0)
    torch.testing.assert_close(losses['loss_rank'], 0.9 * 0.5 * term)
    losses['loss_rank'].backward()
    assert (student.fc.weight.grad != 0).any()
    # gamma follows alpha.
    distiller.distill_losses['loss_kl'].loss_weight = 3.0
    losses = losses_of(distiller, student, teacher, images)
    torch.testing.assert_close(losses['loss_rank'], 3.0 * 0.5 * term)


def test_stands_beside_every_logit_loss_and_reads_its_connector():
    student, teacher, images = Classifier(), Classifier(), torch.randn(5, 3)
    losses = dict(
        loss_kl=dict(type='KLDivergence', loss_weight=9),
        loss_dist=dict(type='mmrazor.DISTLoss', loss_weight=2),
        loss_l2=dict(type='L2Loss'),
    )
    zscore = {name: dict(record, connector='zscore') for name, record in KL.items()}
    mappings = dict(loss_kl=zscore, loss_dist=DIST, loss_l2=dict(
        s_feature=KL['preds_S'], t_feature=KL['preds_T']))  # fmt: skip
    before = copy.deepcopy((losses, mappings))
    connectors = dict(zscore=dict(type='mmkendall.LogitStandardization'))
    distiller = build(losses, mappings, connectors=connectors, rank_loss=dict(steepness=1.0))
    assert (losses, mappings) == before
    values = losses_of(distiller, student, teacher, images)
    assert set(values) == {*losses, 'loss_rank_kl', 'loss_rank_dist'}
    logits = student(images), teacher(images)
    for name, weight, standardize in (('kl', 9, True), ('dist', 2, False)):
        term = kendall_rank_loss(*logits, 1.0, standardize=standardize)
        torch.testing.assert_close(values[f'loss_rank_{name}'], weight * term)


def test_follows_the_warmup_of_dkd(monkeypatch):
    student, teacher, images = Classifier(), Classifier(), torch.randn(5, 3)
    dkd = dict(type='mmkendall.DKDLoss', warmup_epochs=4, loss_weight=2.0)
    distiller = build(dict(loss_dkd=dkd), dict(loss_dkd=KL))
    # Labels come from a record in a config; here they are the same for every call.
    loss = distiller.distill_losses['loss_dkd']
    forward = loss.forward
    monkeypatch.setattr(loss, 'forward', lambda **kw: forward(**kw, gt_labels=torch.arange(5)))
    hub = MessageHub.get_instance('test_follows_the_warmup_of_dkd')
    hub.update_info('loop_stage', 'train')
    hub.update_info('epoch', 0)
    first = losses_of(distiller, student, teacher, images)
    hub.pop_info('loop_stage')
    full = losses_of(distiller, student, teacher, images)
    for name in ('loss_dkd', 'loss_rank'):
        torch.testing.assert_close(first[name], full[name] / 4)


@pytest.mark.parametrize(
    ('losses', 'options', 'message'),
    [
        (dict(loss_l2=dict(type='L2Loss')), {}, r'knows KLDivergence.*has loss_l2 \(L2Loss\)'),
        ({}, {}, 'has nothing'),
        (
            dict(loss_kl=dict(type='KLDivergence'), loss_rank=dict(type='L2Loss')),
            {},
            "adds 'loss_rank' itself",
        ),
        (dict(loss_kl=dict(type='KLDivergence')), dict(rank_weight=-1), 'rank_weight must be 0'),
        (
            dict(loss_kl=dict(type='KLDivergence')),
            dict(rank_loss=dict(loss_weight=2)),
            "without 'loss_weight'",
        ),
        (
            dict(loss_kl=dict(type='KLDivergence')),
            dict(rank_loss=dict(steepness=-2)),
            'steepness must be positive',
        ),
    ],
)
def test_refuses(losses, options, message):
    with pytest.raises(ValueError, match=message):
        build(losses, dict(loss_kl=KL) if 'loss_kl' in losses else {}, **options)

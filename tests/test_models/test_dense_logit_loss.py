from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.logging import MessageHub
from mmengine.registry import DefaultScope
from mmrazor.registry import MODELS as MMRAZOR_MODELS
from torch import nn

from mmkendall import kendall_rank_loss
from mmkendall.engine.distill_config import add_rank_loss
from mmkendall.engine.hooks import RankWeightSchedule
from mmkendall.models import DenseLogitLoss

CLASSES, ANCHORS, IMAGES = 7, 3, 2
SIZES = [(5, 4), (2, 3)]
RANK = dict(type='mmkendall.KendallRankLoss', steepness=2.0)


def maps() -> list[torch.Tensor]:
    """Logits of a head with two levels."""
    return [torch.randn(IMAGES, ANCHORS * CLASSES, *size) for size in SIZES]


def rows_of(logits: list[torch.Tensor], image: int) -> torch.Tensor:
    """The definition: every place's anchors, one after the other, level by level."""
    return torch.stack(
        [
            level[image, anchor * CLASSES : (anchor + 1) * CLASSES, y, x]
            for level in logits
            for y in range(level.shape[2])
            for x in range(level.shape[3])
            for anchor in range(ANCHORS)
        ]
    )


def build(loss: dict = RANK, **options) -> nn.Module:
    with DefaultScope.overwrite_default_scope('mmrazor'):
        return MMRAZOR_MODELS.build(
            dict(type='mmkendall.DenseLogitLoss', num_classes=CLASSES, loss=loss, **options)
        )


@pytest.mark.parametrize('kept', [None, 4, 1000])
def test_keeps_the_rows_where_the_teacher_sees_most(kept):
    student, teacher = maps(), maps()
    for level in student:
        level.requires_grad_()
    loss = build(num_positions=kept)(student, teacher)
    rows_S, rows_T = [], []
    for image in range(IMAGES):
        rows = rows_of(teacher, image)
        order = rows.max(dim=1).values.sort(descending=True).indices[:kept]
        rows_T.append(rows[order])
        rows_S.append(rows_of(student, image)[order])
    expected = kendall_rank_loss(torch.cat(rows_S), torch.cat(rows_T), 2.0)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    touched = sum(
        int((level.grad.unflatten(1, (ANCHORS, CLASSES)) != 0).any(dim=2).sum())
        for level in student
    )
    places = sum(height * width for height, width in SIZES)
    assert touched == IMAGES * min(kept or 1000, ANCHORS * places)


def test_segmentation_logits_are_averaged_over_pixels():
    student, teacher = torch.randn(2, CLASSES, 4, 5), torch.randn(2, CLASSES, 4, 5)
    loss = build(dict(type='KLDivergence', tau=1, loss_weight=0.5))(student, teacher)
    per_pixel = F.kl_div(
        student.log_softmax(1), teacher.log_softmax(1), log_target=True, reduction='none'
    ).sum(1)
    torch.testing.assert_close(loss, 0.5 * per_pixel.mean())
    # KendallRankLoss takes such logits as they are.
    torch.testing.assert_close(build()(student, teacher), kendall_rank_loss(student, teacher, 2.0))


def test_the_teacher_gets_no_gradient():
    student, teacher = maps(), maps()
    for level in (*student, *teacher):
        level.requires_grad_()
    build(num_positions=3)(student, teacher).backward()
    assert all(level.grad is None for level in teacher)


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, CLASSES, 1)

    def forward(self, x):
        return self.conv(x)


def distiller(kind: str, losses: dict, mappings: dict, **options):
    record = dict(cls=dict(type='ModuleOutputs', source='conv'))
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MMRAZOR_MODELS.build(
            dict(
                _scope_='mmrazor', type=kind, student_recorders=record, teacher_recorders=record,
                distill_losses=losses, loss_forward_mappings=mappings, **options,
            )
        )  # fmt: skip


LOSSES = dict(
    loss_kl=dict(
        type='mmkendall.DenseLogitLoss', num_classes=CLASSES, num_positions=6,
        loss=dict(type='KLDivergence', tau=1, loss_weight=0.25),
    )
)  # fmt: skip
MAPPINGS = dict(
    loss_kl=dict(
        preds_S=dict(from_student=True, recorder='cls'),
        preds_T=dict(from_student=False, recorder='cls'),
    )
)


def losses_of(built, student: nn.Module, teacher: nn.Module, images: torch.Tensor) -> dict:
    built.prepare_from_student(student)
    built.prepare_from_teacher(teacher)
    with built.teacher_recorders, torch.no_grad():
        teacher(images)
    with built.student_recorders:
        student(images)
    return built.compute_distill_losses()


def test_the_ranking_loss_stands_beside_it_on_the_same_rows():
    student, teacher, images = Head(), Head(), torch.randn(2, 3, 4, 4)
    built = distiller(
        'mmkendall.RankAugmentedDistiller', LOSSES, MAPPINGS, rank_weight=2.0,
        rank_loss=dict(steepness=2.0),
    )  # fmt: skip
    losses = losses_of(built, student, teacher, images)
    assert list(losses) == ['loss_kl', 'loss_rank']
    expected = DenseLogitLoss(RANK, CLASSES, 6)(student(images), teacher(images))
    torch.testing.assert_close(losses['loss_rank'], 0.25 * 2.0 * expected)
    # By the command line's option: the same.
    cfg = ConfigDict(
        model=dict(distiller=dict(distill_losses=LOSSES, loss_forward_mappings=MAPPINGS))
    )
    added = add_rank_loss(cfg, dict(steepness=2.0))
    assert added['loss_rank']['loss']['loss_weight'] == 0.25
    plain = distiller(
        'ConfigurableDistiller',
        cfg.model.distiller.distill_losses,
        cfg.model.distiller.loss_forward_mappings,
    )
    term = losses_of(plain, student, teacher, images)['loss_rank']
    torch.testing.assert_close(2.0 * term, losses['loss_rank'])


def test_a_schedule_names_the_losses_apart():
    names = ('loss_kl', 'loss_more')
    built = distiller(
        'mmkendall.RankAugmentedDistiller',
        {name: LOSSES['loss_kl'] for name in names},
        {name: MAPPINGS['loss_kl'] for name in names},
    )

    class Runner:
        model = built
        max_iters = 10
        iter = 0
        message_hub = MessageHub.get_instance('dense')

    hook = RankWeightSchedule('linear_warmup', iters=10)
    hook.before_train(Runner)
    assert sorted(hook.losses) == ['rank_weight_loss_rank_kl', 'rank_weight_loss_rank_more']
    hook.before_train_iter(Runner, 0)
    assert built.distill_losses['loss_rank_kl'].loss_weight == pytest.approx(0.1)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(num_classes=0), 'num_classes must be an integer of 1 at least, got 0'),
        (dict(num_classes=True), 'num_classes must be an integer'),
        (dict(num_classes=3, num_positions=1.5), 'num_positions must be an integer .* got 1.5'),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        DenseLogitLoss(RANK, **options)


def test_wrong_logits():
    loss = build()
    with pytest.raises(ValueError, match=r'same shapes, got \[.*\] and \[.*\]'):
        loss(maps(), maps()[:1])
    with pytest.raises(ValueError, match=r'num_classes=7, got \(2, 8, 4, 4\)'):
        loss(torch.randn(2, 8, 4, 4), torch.randn(2, 8, 4, 4))
    with pytest.raises(ValueError, match=r'got \(2, 7\)'):
        loss(torch.randn(2, 7), torch.randn(2, 7))

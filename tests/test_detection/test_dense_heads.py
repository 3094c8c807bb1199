"""The logits of dense heads, recorded from the student's loss and from a teacher without one."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.hub import get_config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mmkendall.models import DenseLogitLoss

from ..conftest import needs_mmdet
from .test_roi_logit_distill import raw_batch

needs_mmdet()

CLASSES, KEPT = 5, 7
RANK = dict(type='mmkendall.KendallRankLoss', steepness=2.0)
HEADS = {
    'retinanet/retinanet_r18_fpn_1x_coco.py': 'mmdet.models.dense_heads.anchor_head.AnchorHead',
    'gfl/gfl_r50_fpn_1x_coco.py': 'mmdet.models.dense_heads.gfl_head.GFLHead',
}


def detector(name: str) -> dict:
    """A detector with ResNet-18 and five classes."""
    model = copy.deepcopy(get_config(f'mmdet::{name}').model)
    model.backbone.update(depth=18, init_cfg=None)
    model.neck.in_channels = [64, 128, 256, 512]
    model.bbox_head.update(num_classes=CLASSES, stacked_convs=1)
    model._scope_ = 'mmdet'
    return model


@pytest.mark.parametrize('kind', ['mmkendall.LogitDistill', 'mmrazor.SingleTeacherDistill'])
@pytest.mark.parametrize('name', HEADS)
def test_the_rows_are_those_of_the_heads(name, kind):
    record = dict(head=dict(type='MethodOutputs', source=f'{HEADS[name]}.forward'))
    preds = {
        argument: dict(from_student=from_student, recorder='head', data_idx=0)
        for argument, from_student in (('preds_S', True), ('preds_T', False))
    }
    loss = dict(type='mmkendall.DenseLogitLoss', num_classes=CLASSES, num_positions=KEPT)
    config = dict(
        type=kind,
        architecture=detector(name),
        teacher=detector(name),
        distiller=dict(
            _scope_='mmrazor',
            type='ConfigurableDistiller',
            student_recorders=record,
            teacher_recorders=record,
            distill_losses=dict(loss_rank=dict(**loss, loss=RANK)),
            loss_forward_mappings=dict(loss_rank=preds),
        ),
    )
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(config)
    for part, parameter in model.named_parameters():
        if part.endswith('_cls.weight'):
            nn.init.normal_(parameter, std=0.1)
    model.train()  # mmrazor's returns None.
    batch = model.data_preprocessor(raw_batch(), training=True)
    losses = model(**batch, mode='loss')

    student, teacher = (
        detector.bbox_head(detector.extract_feat(batch['inputs']))[0]
        for detector in (model.architecture, model.teacher)
    )
    expected = DenseLogitLoss(RANK, CLASSES, KEPT)(student, teacher)
    torch.testing.assert_close(losses['distill.loss_rank'], expected)
    losses['distill.loss_rank'].backward()
    assert all(parameter.grad is None for parameter in model.teacher.parameters())
    assert (model.architecture.backbone.layer4[0].conv1.weight.grad != 0).any()

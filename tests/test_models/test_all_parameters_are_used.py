"""No parameter is left without a gradient, which DistributedDataParallel would stop at."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from torch import nn

from mmkendall import compat

from ..processes import run_in_processes
from .test_algorithms import batch, build, config


def model_with_parts(**options) -> nn.Module:
    """CTKD's temperature, a connector that a loss uses and one that none uses."""
    model = config(**options)
    distiller = model.distiller
    for side in (distiller.student_recorders, distiller.teacher_recorders):
        side.map = dict(type='ModuleOutputs', source='backbone.layer4.1.relu')
    connector = dict(type='ConvModuleConnector', in_channel=32, out_channel=128, norm_cfg=None)
    distiller.connectors = dict(wide=connector, spare=copy.deepcopy(connector))
    distiller.distill_losses.update(
        loss_map=dict(type='L2Loss', normalize=False),
        loss_ctkd=dict(type='mmkendall.CTKDLoss', ramp_epochs=1),
    )
    distiller.loss_forward_mappings.update(
        loss_map=dict(
            s_feature=dict(from_student=True, recorder='map', connector='wide'),
            t_feature=dict(from_student=False, recorder='map'),
        ),
        loss_ctkd=distiller.loss_forward_mappings.loss_kldivergence,
    )
    return build(distiller=distiller, **options)


def train_in_a_process(rank: int) -> None:
    """Two steps, then two after distillation has stopped."""
    compat.apply()
    wrapped = MMDistributedDataParallel(model_with_parts(), broadcast_buffers=False)
    optimizer = OptimWrapper(torch.optim.SGD(wrapped.parameters(), lr=0.01))
    model = wrapped.module
    for stopped in (False, False, True, True):
        model.distillation_stopped = stopped
        images, samples = batch(4, seed=rank)
        data = dict(inputs=list(images), data_samples=samples)
        logged = wrapped.train_step(data, optimizer)
        assert any(name.startswith('distill.') for name in logged) != stopped
    weight = model.architecture.head.fc.weight.detach()
    both = [torch.empty_like(weight) for _ in range(2)]
    torch.distributed.all_gather(both, weight)
    assert torch.equal(*both)
    del wrapped, model, optimizer


@pytest.mark.long
def test_two_processes_train_on_after_distillation_has_stopped(tmp_path):
    run_in_processes(train_in_a_process, 2, tmp_path)


@pytest.mark.parametrize('stopped', [False, True])
@pytest.mark.parametrize('of_student', [False, True])
def test_every_trained_parameter_has_a_gradient(stopped, of_student):
    model = model_with_parts(calculate_student_loss=of_student)
    if not of_student:
        # Features alone: the student's head has no part in the loss.
        if stopped:
            return
        for name in ('loss_kldivergence', 'loss_ctkd'):
            del model.distiller.loss_forward_mappings[name]
    model.distillation_stopped = stopped
    # What nothing reads may hold anything.
    for parameter in model.distiller.connectors['spare'].parameters():
        parameter.data.fill_(torch.nan)
    losses = model(*batch(), mode='loss')
    total = sum(losses.values())
    assert torch.isfinite(total)
    total.backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name


def test_lists_of_losses_stay_lists():
    """mmdet's heads give a loss each level."""
    model = model_with_parts()
    losses = {'loss_cls': [torch.ones(()), torch.ones(())], 'acc': torch.ones(())}
    model.distillation_stopped = True
    losses = model._all_losses(losses)
    assert [value.item() for value in losses['student.loss_cls']] == [1.0, 1.0]

"""LogitDistill against mmrazor's SingleTeacherDistill, and what it does beyond it."""

from __future__ import annotations

import copy
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.model import ExponentialMovingAverage
from mmengine.registry import MODELS
from mmengine.runner import load_checkpoint, save_checkpoint
from mmpretrain.structures import DataSample
from torch import nn

from mmkendall.models import LogitDistill
from mmkendall.models.algorithms.records import trainable_record
from mmkendall.models.algorithms.teacher_input import TeacherInput

from ..conftest import REPOSITORY

MEAN, STD = [77.8], [95.8]
TORCH = tuple(map(int, torch.__version__.split('.')[:2]))
LOSSES = {
    'KLDivergence': (dict(tau=4, loss_weight=0.9), ('preds_S', 'preds_T')),
    'DKDLoss': (dict(tau=4, beta=1.0), ('preds_S', 'preds_T')),
    'DISTLoss': (dict(tau=4), ('logits_S', 'logits_T')),
    'L2Loss': (dict(normalize=False), ('s_feature', 't_feature')),
    'mmkendall.KendallRankLoss': (dict(steepness=2.0), ('preds_S', 'preds_T')),
}


def config(kind: str = 'mmkendall.LogitDistill', losses: tuple = ('KLDivergence',), **options):
    """The digits pair with some losses on its logits."""
    base = REPOSITORY / 'configs/digits/kd_logits_resnet18-w16_resnet18-w4_1xb64_digits.py'
    model = Config.fromfile(str(base)).model
    model.type = kind
    model.teacher_ckpt = None
    model.distiller.distill_losses = {}
    model.distiller.loss_forward_mappings = {}
    for name in losses:
        arguments, (of_student, of_teacher) = LOSSES[name]
        key = 'loss_' + name.rpartition('.')[2].lower()
        model.distiller.distill_losses[key] = dict(type=name, **arguments)
        mapping = {
            of_student: dict(from_student=True, recorder='fc'),
            of_teacher: dict(from_student=False, recorder='fc'),
        }
        if name == 'DKDLoss':
            recorders = model.distiller.student_recorders
            recorders.gt_labels = dict(type='ModuleInputs', source='head.loss_module')
            mapping['gt_labels'] = dict(recorder='gt_labels', from_student=True, data_idx=1)
        model.distiller.loss_forward_mappings[key] = mapping
    model.update(options)
    return model


def build(kind: str = 'mmkendall.LogitDistill', **options) -> nn.Module:
    torch.manual_seed(0)
    model = MODELS.build(config(kind, **options))
    # Running statistics as after some training: eval mode then differs from train mode.
    for module in model.teacher.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    # mmrazor's train() returns None.
    model.train()
    return model


def batch(size: int = 6, seed: int = 0) -> tuple[torch.Tensor, list[DataSample]]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 1, 8, 8, generator=generator)
    return images, [DataSample().set_gt_label(index % 10) for index in range(size)]


def losses_and_gradients(model: nn.Module, *data) -> tuple[dict, dict]:
    losses = model(*(data or batch()), mode='loss')
    sum(loss for name, loss in losses.items() if 'loss' in name).backward()
    gradients = {name: p.grad for name, p in model.architecture.named_parameters()}
    return {name: loss.detach() for name, loss in losses.items()}, gradients


def assert_same(one: dict, two: dict, tolerance: float = 1e-6) -> None:
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=tolerance, atol=tolerance)


def teacher_with_dropout(rate: float = 0.5) -> dict:
    head = dict(
        type='mmpretrain.StackedLinearClsHead',
        num_classes=10, in_channels=128, mid_channels=[32], dropout_rate=rate,
    )  # fmt: skip
    return head


def two_teachers(weights: tuple[float, float], **second) -> list[dict]:
    teacher = config().teacher
    return [
        dict(model=copy.deepcopy(teacher), weight=weights[0]),
        dict(model=copy.deepcopy(teacher), weight=weights[1], **second),
    ]


@pytest.mark.parametrize('name', LOSSES)
def test_equals_mmrazors_on_a_teacher_without_dropout(name):
    ours, theirs = (
        build(kind, losses=(name,))
        for kind in ('mmkendall.LogitDistill', 'mmrazor.SingleTeacherDistill')
    )
    theirs.load_state_dict(ours.state_dict())
    (losses, gradients), (expected, expected_gradients) = map(losses_and_gradients, (ours, theirs))
    assert_same(losses, expected)
    assert_same(gradients, expected_gradients)
    assert all((gradient != 0).any() for gradient in gradients.values())


@pytest.mark.parametrize('channels_last', [False, True])
@pytest.mark.parametrize('dtype', [None, 'float32', 'bfloat16', 'float16'])
def test_every_precision_trains(dtype, channels_last):
    if dtype == 'float16' and TORCH < (2, 0):
        with pytest.raises(ValueError, match="teacher_dtype 'float16' is not possible on cpu"):
            build(teacher_dtype=dtype)(*batch(), mode='loss')
        return
    losses, gradients = losses_and_gradients(
        build(losses=tuple(LOSSES), teacher_dtype=dtype, channels_last=channels_last)
    )
    expected, expected_gradients = losses_and_gradients(build(losses=tuple(LOSSES)))
    exact = dtype in (None, 'float32')
    assert_same(losses, expected, 1e-5 if exact else 3e-2)
    gradient, expected_gradient = (
        torch.cat([value.flatten() for value in values.values()])
        for values in (gradients, expected_gradients)
    )
    distance = (gradient - expected_gradient).norm() / expected_gradient.norm()
    assert distance < (1e-4 if exact else 0.1)


def test_channels_last_of_a_narrow_student_writes_nowhere_else():
    """oneDNN's gradient of a strided 1x1 convolution of 4 channels corrupts the heap otherwise."""
    code = (
        'import torch\n'
        'from mmkendall import compat\n'
        'compat.apply()\n'
        'from tests.test_models.test_algorithms import batch, build, losses_and_gradients\n'
        'model = build(channels_last=True)\n'
        'for seed in range(20):\n'
        '    losses_and_gradients(model, *batch(64, seed))\n'
        '    blocks = [torch.ones(size) for size in range(1, 3000, 100)]\n'
        "print('finished')\n"
    )
    done = subprocess.run(
        [sys.executable, '-c', code],
        cwd=REPOSITORY,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.endswith('finished\n'), (done.returncode, done.stderr)


def test_teacher_keeps_its_precision_under_autocast_of_the_student():
    model = build(teacher_dtype='float32')
    with torch.autocast('cpu', torch.bfloat16):
        model(*batch(), mode='loss')
        recorded = model.distiller.get_record('fc', from_student=False)
    expected = model.teacher(batch()[0])
    torch.testing.assert_close(recorded, expected, rtol=0, atol=0)


@pytest.mark.parametrize('dtype', [None, 'float32', 'bfloat16'])
def test_every_loss_works_under_autocast_of_the_student(dtype):
    model = build(losses=tuple(LOSSES), teacher_dtype=dtype)
    with torch.autocast('cpu', torch.bfloat16):
        losses = model(*batch(), mode='loss')
    assert len([name for name in losses if name.startswith('distill.')]) == len(LOSSES)
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.student.parameters())


def test_teacher_is_frozen_to_the_bit():
    model = build(losses=tuple(LOSSES))
    before = copy.deepcopy(model.teacher.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for seed in range(3):
        losses_and_gradients(model, *batch(seed=seed))
        optimizer.step()
    for name, value in model.teacher.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in model.teacher.parameters())


def test_whole_teacher_is_in_eval_mode():
    model = build()
    head = MODELS.build(teacher_with_dropout())
    model.teacher.head = head
    assert model.train() is model
    assert not any(module.training for module in model.teacher.modules())
    assert model.architecture.training
    assert model.distiller.training
    assert model.eval() is model


@pytest.mark.parametrize('kind', ['mmkendall.LogitDistill', 'mmrazor.SingleTeacherDistill'])
def test_dropout_teacher_is_deterministic(kind):
    options = config()
    options.teacher.head = teacher_with_dropout()
    options.distiller.teacher_recorders.fc.source = 'head.layers.1.fc'
    model = build(kind, teacher=options.teacher, distiller=config_distiller(options))
    logits = []
    for _ in range(2):
        model(*batch(), mode='loss')
        logits.append(model.distiller.get_record('fc', from_student=False))
    # mmrazor's is what this is about: it drops teacher features at random.
    assert torch.equal(*logits) == (kind == 'mmkendall.LogitDistill')


def config_distiller(options) -> dict:
    distiller = config().distiller
    distiller.teacher_recorders = options.distiller.teacher_recorders
    return distiller


def test_no_teacher_loss_is_computed(monkeypatch):
    model = build()
    monkeypatch.setattr(model.teacher.head, 'loss', None)
    monkeypatch.setattr(model.teacher, 'loss', None)
    assert 'distill.loss_kldivergence' in model(*batch(), mode='loss')


def test_teacher_rests_when_distillation_is_stopped(monkeypatch):
    model = build()
    model.distillation_stopped = True
    monkeypatch.setattr(model.teacher, 'forward', None)
    assert list(model(*batch(), mode='loss')) == ['student.loss']


def test_records_of_inference_mode_become_trainable():
    with torch.inference_mode():
        record = {'a': [torch.ones(2), (torch.ones(2, dtype=torch.bfloat16), 'text')]}
    first, (second, text) = trainable_record(record)['a']
    weight = torch.ones(2, requires_grad=True)
    (weight * first * second).sum().backward()
    assert torch.equal(weight.grad, torch.ones(2))
    assert second.dtype == torch.float32
    assert text == 'text'


def test_feature_maps_are_recorded_too():
    options = config()
    for side in ('student_recorders', 'teacher_recorders'):
        options.distiller[side].map = dict(type='ModuleOutputs', source='backbone.layer4.1.relu')
    options.distiller.connectors = dict(
        wide=dict(type='ConvModuleConnector', in_channel=32, out_channel=128, norm_cfg=None)
    )
    options.distiller.distill_losses.loss_map = dict(type='L2Loss', normalize=False)
    options.distiller.loss_forward_mappings.loss_map = dict(
        s_feature=dict(from_student=True, recorder='map', connector='wide'),
        t_feature=dict(from_student=False, recorder='map'),
    )
    ours, theirs = (
        build(kind, distiller=copy.deepcopy(options.distiller))
        for kind in ('mmkendall.LogitDistill', 'mmrazor.SingleTeacherDistill')
    )
    theirs.load_state_dict(ours.state_dict())
    (losses, gradients), (expected, expected_gradients) = map(losses_and_gradients, (ours, theirs))
    assert 'distill.loss_map' in losses
    assert_same(losses, expected)
    assert_same(gradients, expected_gradients)


def test_recorder_after_the_logits_is_refused():
    options = config()
    options.distiller.teacher_recorders.fc = dict(type='ModuleInputs', source='head.loss_module')
    model = build(distiller=options.distiller)
    with pytest.raises(RuntimeError, match=r"recorder 'fc' \(source 'head.loss_module'\)"):
        model(*batch(), mode='loss')


def test_several_teachers_weigh_their_losses():
    model = build(losses=tuple(LOSSES), teacher=two_teachers((3, 1)))
    states = [teacher.state_dict() for teacher in model.teachers]
    assert not torch.equal(states[0]['head.fc.weight'], states[1]['head.fc.weight'])
    losses, gradients = losses_and_gradients(model)
    student = model.architecture.state_dict()

    parts = []
    for state in states:
        single = build(losses=tuple(LOSSES))
        single.teacher.load_state_dict(state)
        single.architecture.load_state_dict(student)
        parts.append(losses_and_gradients(single))
    for name in losses:
        expected = 0.75 * parts[0][0][name] + 0.25 * parts[1][0][name]
        torch.testing.assert_close(losses[name], expected, rtol=1e-6, atol=1e-6)
    for name in gradients:
        expected = 0.75 * parts[0][1][name] + 0.25 * parts[1][1][name]
        torch.testing.assert_close(gradients[name], expected, rtol=1e-4, atol=1e-4)


def test_kl_to_several_teachers_has_the_gradient_of_their_mean_probability():
    model = build(teacher=two_teachers((1, 3)), calculate_student_loss=False)
    model(*batch(), mode='loss')['distill.loss_kldivergence'].backward()
    gradient = model.architecture.head.fc.weight.grad
    with torch.no_grad():
        one, two = (F.softmax(teacher(batch()[0]) / 4, dim=1) for teacher in model.teachers)
    model.architecture.zero_grad()
    log_probabilities = F.log_softmax(model.architecture(batch()[0]) / 4, dim=1)
    kl = F.kl_div(log_probabilities, 0.25 * one + 0.75 * two, reduction='batchmean')
    (0.9 * 16 * kl).backward()
    torch.testing.assert_close(model.architecture.head.fc.weight.grad, gradient)


def test_each_teacher_has_its_recorders_and_size():
    other = copy.deepcopy(config().teacher)
    other.head = teacher_with_dropout()
    recorders = dict(fc=dict(type='ModuleOutputs', source='head.layers.1.fc'))
    first = two_teachers((1, 1))[0]
    model = build(teacher=[first, dict(model=other, recorders=recorders, input_size=(12, 16))])
    sizes = []
    for teacher in model.teachers:
        teacher.backbone.register_forward_pre_hook(
            lambda module, inputs: sizes.append(tuple(inputs[0].shape[-2:]))
        )
    _, gradients = losses_and_gradients(model)
    assert sizes == [(8, 8), (12, 16)]
    assert all((gradient != 0).any() for gradient in gradients.values())


def preprocessor(kind: str = 'mmpretrain.ClsDataPreprocessor', **options) -> nn.Module:
    return MODELS.build(dict(type=kind, **options))


@pytest.mark.parametrize('student_rgb', [False, True])
@pytest.mark.parametrize(
    'kind', ['mmpretrain.ClsDataPreprocessor', 'mmengine.ImgDataPreprocessor']
)
def test_teacher_sees_its_own_normalization(kind, student_rgb):
    pixels = torch.randint(0, 256, (2, 3, 10, 10), dtype=torch.uint8)
    order = 'to_rgb' if kind.startswith('mmpretrain') else 'bgr_to_rgb'
    student = preprocessor(
        kind, mean=[10.0, 20.0, 30.0], std=[40.0, 50.0, 60.0], **{order: student_rgb}
    )
    teacher = preprocessor(mean=[123.675, 116.28, 103.53], std=[58.4, 57.1, 57.4], to_rgb=True)
    samples = {'inputs': list(pixels)}
    expected = teacher(samples)['inputs']
    seen = TeacherInput(student, teacher)(student(samples)['inputs'])
    torch.testing.assert_close(seen, expected, rtol=1e-5, atol=1e-5)


def test_teacher_without_a_normalization_sees_the_students_input():
    images = torch.randn(2, 3, 8, 8)
    student = preprocessor(mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0])
    assert TeacherInput(student, preprocessor())(images) is images
    assert TeacherInput(student, student)(images) is images
    seen = TeacherInput(preprocessor(), student)(images)
    torch.testing.assert_close(seen, (images - student.mean) / student.std)


def test_normalization_of_the_teachers_config_is_used():
    teacher = config().teacher
    teacher.data_preprocessor = dict(mean=[0.0], std=[255.0], to_rgb=False)
    model = build(teacher=teacher)
    model(*batch(), mode='loss')
    recorded = model.distiller.get_record('fc', from_student=False)
    pixels = batch()[0] * STD[0] + MEAN[0]
    torch.testing.assert_close(recorded, model.teacher(pixels / 255), rtol=1e-4, atol=1e-6)


@pytest.fixture
def teacher_checkpoint(tmp_path):
    torch.manual_seed(5)
    teacher = MODELS.build(config().teacher)
    path = tmp_path / 'teacher.pth'
    save_checkpoint({'state_dict': teacher.state_dict()}, str(path))
    return path


def test_checkpoint_leaves_out_a_teacher_that_has_its_own(teacher_checkpoint, tmp_path):
    model = build(teacher_ckpt=str(teacher_checkpoint))
    state = model.state_dict()
    assert not [name for name in state if name.startswith('teacher')]
    other = build(teacher_ckpt=str(teacher_checkpoint))
    other.architecture.head.fc.weight.data.zero_()
    assert other.load_state_dict(state, strict=True).missing_keys == []
    assert_same(other.architecture.state_dict(), model.architecture.state_dict(), 0)

    save_checkpoint({'state_dict': state}, str(tmp_path / 'small.pth'))
    load_checkpoint(other, str(tmp_path / 'small.pth'), strict=True)
    state.pop('architecture.head.fc.weight')
    with pytest.raises(RuntimeError, match=r'architecture\.head\.fc\.weight'):
        other.load_state_dict(state, strict=True)


@pytest.mark.parametrize('options', [dict(save_teacher=True), dict(teacher_ckpt=None)])
def test_checkpoint_keeps_a_teacher_on_request_or_without_its_own(teacher_checkpoint, options):
    model = build(**{'teacher_ckpt': str(teacher_checkpoint), **options})
    model.teacher.head.fc.weight.data.fill_(3.0)
    state = model.state_dict()
    for loader in (
        build(teacher_ckpt=str(teacher_checkpoint)),
        build('mmrazor.SingleTeacherDistill'),
    ):
        loader.load_state_dict(state, strict=True)
        assert torch.equal(loader.teacher.head.fc.weight, model.teacher.head.fc.weight)


def test_checkpoint_of_mmrazor_loads(teacher_checkpoint):
    theirs = build('mmrazor.SingleTeacherDistill')
    ours = build(teacher_ckpt=str(teacher_checkpoint))
    ours.load_state_dict(theirs.state_dict(), strict=True)
    assert_same(ours.teacher.state_dict(), theirs.teacher.state_dict(), 0)


def test_several_teachers_are_left_out_one_by_one(teacher_checkpoint):
    model = build(teacher=two_teachers((1, 1), checkpoint=str(teacher_checkpoint)))
    names = {name.split('.')[1] for name in model.state_dict() if name.startswith('teacher')}
    assert names == {'0'}
    model.load_state_dict(model.state_dict(), strict=True)


@pytest.mark.parametrize(
    ('options', 'error', 'message'),
    [
        (dict(teacher_dtype='half'), ValueError, "teacher_dtype must be .* got 'half'"),
        (dict(teacher_trainable=True), ValueError, 'teacher_trainable must be False, got True'),
        (dict(teacher_norm_eval=False), ValueError, 'teacher_norm_eval must be True'),
        (dict(student_trainable=False), ValueError, 'student_trainable must be True'),
        (dict(student_trained=True), TypeError, "unexpected keyword argument 'student_trained'"),
        (dict(teacher=[]), ValueError, r'at least one teacher, got \[\]'),
        (dict(teacher=[dict(type='x')]), ValueError, r"teacher\[0\] must be .* got \['type'\]"),
        (dict(teacher=two_teachers((1, 0))), ValueError, r'teacher\[1\]\.weight must be above 0'),
        (
            dict(teacher=two_teachers((1, 1), input_size='big')),
            TypeError,
            r"teacher\[1\]\.input_size cannot be 'big'",
        ),
        (
            dict(teacher=two_teachers((1, 1), input_size=(1, 2, 3))),
            ValueError,
            r'teacher\[1\]\.input_size must be an int or \(height, width\)',
        ),
        (
            dict(teacher=two_teachers((1, 1), recorders=dict(x={}))),
            ValueError,
            'fc missing, got x',
        ),
        (
            dict(teacher=two_teachers((1, 1)), teacher_ckpt='a.pth'),
            ValueError,
            "teacher_ckpt is for a single teacher, got 'a.pth'",
        ),
        (dict(teacher=nn.Linear(1, 1)), TypeError, 'teacher must be .* got Linear'),
    ],
)
def test_refuses(options, error, message):
    with pytest.raises(error, match=message):
        LogitDistill(**{k: v for k, v in {**config(), **options}.items() if k != 'type'})


def test_takes_what_only_single_teacher_distill_can_be_told_otherwise():
    told = dict(teacher_trainable=False, teacher_norm_eval=True, student_trainable=True)
    model = build(**told)
    assert not any(parameter.requires_grad for parameter in model.teacher.parameters())
    assert all(parameter.requires_grad for parameter in model.architecture.parameters())


def test_loads_by_itself_in_mmrazors_scope():
    """mmrazor's own config, with ``_scope_='mmrazor'`` and ``cfg_path``; one type changes."""
    path = 'mmrazor::distill/mmcls/kd/kd_logits_resnet34_resnet18_8xb32_in1k.py'
    model = Config.fromfile(Config._get_cfg_path(path, '')[0]).model
    model.type = 'mmkendall.LogitDistill'
    model.teacher_ckpt = None
    model = MODELS.build(model).train()
    images = torch.randn(2, 3, 64, 64)
    losses = model(images, batch(2)[1], mode='loss')
    assert set(losses) == {'student.loss', 'distill.loss_kl'}
    # The teacher's own preprocessor normalises as the student's does.
    assert model.teacher_inputs[0](images) is images


def test_averaged_model_leaves_the_teacher_out_too(teacher_checkpoint):
    model = build(teacher_ckpt=str(teacher_checkpoint))
    averaged = ExponentialMovingAverage(model, momentum=0.5)
    model.architecture.head.fc.bias.data += 1
    averaged.update_parameters(model)
    averaged.update_parameters(model)
    state = averaged.state_dict()
    assert not [name for name in state if name.startswith('module.teacher')]
    assert averaged.load_state_dict(state, strict=True).missing_keys == []
    # The copy records with recorders of its own.
    losses = averaged.module(*batch(), mode='loss')
    assert 'distill.loss_kldivergence' in losses
    assert not model.distiller.teacher_recorders.get_recorder('fc').data_buffer


def test_needs_mmengine_alone_to_be_imported():
    code = (
        'import sys\n'
        "for name in ('mmrazor', 'mmpretrain', 'mmcv'):\n"
        '    sys.modules[name] = None\n'
        'import mmkendall.datasets, mmkendall.engine, mmkendall.models\n'
        'from mmkendall.registry import LOOPS, MODELS\n'
        "assert MODELS.get('mmkendall.LogitDistill') and LOOPS.get('mmkendall.DistillValLoop')\n"
    )
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

"""What works on a plain model works on the LogitDistill around it, with the student's settings."""

from __future__ import annotations

import copy
import pickle
import re
import sys

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, MODELS
from mmengine.runner import Runner
from mmpretrain.models.losses import CrossEntropyLoss
from mmpretrain.structures import DataSample
from torch import nn

from mmkendall.datasets import Digits
from mmkendall.engine.checks.built_model import check_constructor, check_hooks
from mmkendall.engine.distill_config import ConfigError
from mmkendall.models import LogitDistill
from mmkendall.models.algorithms import loading
from mmkendall.models.algorithms.student_settings import warn_of_own_steps

from ..conftest import call_tool
from ..short_runs import DIGITS, PAIR, TEACHER, short_config, short_run
from .test_algorithms import batch, build, config

MIXUP = dict(augments=dict(type='mmpretrain.Mixup', alpha=1.0))
SWITCH = dict(
    type='mmpretrain.SwitchRecipeHook',
    schedule=[dict(action_epoch=2, batch_augments=dict(augments=dict(type='Mixup', alpha=1.0)))],
)


NEW_LOSS = dict(action_epoch=1, loss=dict(type='mmpretrain.CrossEntropyLoss', loss_weight=0.0))


class Bare(BaseModel):
    """A model with mmengine's default data preprocessor."""

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return inputs


def build_anew(**options) -> nn.Module:
    """As ``build``, but an option takes the place of the config's instead of adding to it."""
    model = {**config(), **options}
    del model['type']
    return LogitDistill(**model).train()


def plain(sample: DataSample) -> DataSample:
    """An image without its labels."""
    return DataSample(metainfo=sample.metainfo)


# ---- parts of the student ----


def test_parts_of_the_student_are_found_and_set_there():
    model = build()
    student = model.architecture
    assert model.head is student.head
    assert model.backbone is student.backbone
    assert model.with_head
    images = batch()[0]
    student.eval()
    assert torch.equal(model.extract_feat(images)[0], student.extract_feat(images)[0])
    model.head = head = copy.deepcopy(student.head)
    assert student.head is head
    assert 'head' not in model._modules
    # Its own come first, and what neither has is not made up.
    assert model.data_preprocessor is not student.data_preprocessor
    model.data_preprocessor = preprocessor = copy.deepcopy(model.data_preprocessor)
    assert student.data_preprocessor is not preprocessor
    for name in ('no_such_part', '_no_such_part'):
        with pytest.raises(AttributeError, match=name):
            getattr(model, name)
        setattr(model, name, 1)
        assert not hasattr(student, name)


def test_a_property_that_fails_is_not_looked_for_in_the_student():
    model = build()
    model.architecture.teachers = 'of the student'
    del model.teacher
    with pytest.raises(AttributeError):
        model.teachers  # noqa: B018


def test_copies_are_of_the_whole():
    model = build()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(copy.deepcopy(model)))):
        assert other.head is other.architecture.head
        assert other.head is not model.head
        other.load_state_dict(model.state_dict())
        assert 'distill.loss_kldivergence' in other(*batch(), mode='loss')


def vit(depth: int = 12) -> dict:
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(
            type='mmpretrain.VisionTransformer', img_size=16, patch_size=8, in_channels=1,
            arch=dict(embed_dims=16, num_layers=depth, num_heads=2, feedforward_channels=16),
        ),
        head=dict(
            type='mmpretrain.VisionTransformerClsHead', num_classes=10, in_channels=16
        ),
    )  # fmt: skip


def test_layer_wise_learning_rates_are_those_of_the_student_alone():
    distiller = config().distiller
    for recorders in (distiller.student_recorders, distiller.teacher_recorders):
        recorders.fc.source = 'head.layers.head'
    distiller.distill_losses.loss_ctkd = dict(type='mmkendall.CTKDLoss', ramp_epochs=1)
    distiller.loss_forward_mappings.loss_ctkd = distiller.loss_forward_mappings.loss_kldivergence
    model = build_anew(architecture=vit(2), teacher=vit(2), distiller=distiller)
    options = dict(
        optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.1),
        constructor='mmpretrain.LearningRateDecayOptimWrapperConstructor',
        paramwise_cfg=dict(layer_decay_rate=0.5),
    )
    rates = []
    for module in (model, model.architecture):
        groups = build_optim_wrapper(module, options).optimizer.param_groups
        names = {parameter: name for name, parameter in module.named_parameters()}
        rates.append({names[group['params'][0]]: group['lr'] for group in groups})
    ours, alone = rates
    assert len(set(alone.values())) == 4
    assert {f'architecture.{name}': rate for name, rate in alone.items()}.items() <= ours.items()
    # The distiller's learn as fast as the head, the teacher's not at all.
    others = {name: rate for name, rate in ours.items() if not name.startswith('architecture.')}
    assert others
    assert all(name.startswith('distiller.') for name in others)
    assert set(others.values()) == {1.0}
    with pytest.raises(NotImplementedError, match='ResNet_CIFAR'):
        build_optim_wrapper(build(), options)


# ---- hooks that change something in mid-run ----


@pytest.mark.parametrize(
    'options',
    [
        dict(custom_hooks=[dict(type='mmpretrain.SetAdaptiveMarginsHook')]),
        dict(
            custom_hooks=[
                dict(
                    type='mmpretrain.WarmupParamHook',
                    param_name='loss_weight', module_name='head.loss_module', warmup_epochs=10,
                ),
                dict(type='mmpretrain.PreciseBNHook', num_samples=64),
                dict(type='mmpretrain.EMAHook', momentum=0.1),
                dict(type='mmengine.EMAHook', strict_load=True),
            ]
        ),
        dict(activation_checkpointing=['backbone.layer4'], efficient_conv_bn_eval=['backbone']),
    ],
)  # fmt: skip
def test_hooks_find_the_students_parts(options, tmp_path, monkeypatch):
    # mmpretrain's own datasets have it, and the hook of the margins asks for it.
    labels = [0] * 90 + list(range(10))
    monkeypatch.setattr(Digits, 'get_gt_labels', lambda self: labels, raising=False)
    cfg = short_config(PAIR, tmp_path, **options)
    if 'Margins' in str(options):
        cfg.model.architecture.head = dict(
            type='mmpretrain.ArcFaceClsHead', num_classes=10, in_channels=32
        )
        cfg.model.distiller.student_recorders.fc.source = 'head.norm_product'
    runner = Runner.from_cfg(cfg)
    runner.train()
    student = runner.model.architecture
    if 'Margins' in str(options):
        assert len(set(student.head.margins.tolist())) > 1
    if 'Warmup' in str(options):
        assert student.head.loss_module.loss_weight < 0.1
    if 'efficient' in str(options):
        assert 'forward' in vars(student.backbone)
        assert 'forward' in vars(student.backbone.layer4)


@pytest.mark.parametrize(
    ('hook', 'model', 'message'),
    [
        (dict(type='mmrazor.StopDistillHook', stop_epoch=3), {}, None),
        (
            dict(type='mmrazor.StopDistillHook', stop_epoch=3),
            dict(calculate_student_loss=False),
            'at epoch 3, and .* nothing would be left to train',
        ),
        (SWITCH, {}, None),
        (SWITCH, dict(teacher_logits='folder'), 'changes batch_augments at epoch 2'),
        (
            dict(type='mmpretrain.SwitchRecipeHook', schedule=[NEW_LOSS]),
            dict(losses=('DKDLoss',)),
            r'another loss .* at epoch 1, .* gt_labels \(head.loss_module\)',
        ),
        (dict(type='mmpretrain.SwitchRecipeHook', schedule=[NEW_LOSS]), {}, None),
    ],
)
def test_hooks_that_would_end_the_run_later(hook, model, message):
    model = build(**model)
    if message is None:
        check_hooks(model, [HOOKS.build(hook)])
        return
    with pytest.raises(ConfigError, match=message):
        check_hooks(model, [HOOKS.build(hook)])


@pytest.mark.parametrize('package', ['mmdet', 'mmseg'])
def test_learning_rates_by_a_detectors_names_are_refused(package, tmp_path):
    class LearningRateDecayOptimizerConstructor:
        __module__ = f'{package}.engine.optimizers'

    cfg = short_config(PAIR, tmp_path)
    cfg.optim_wrapper.constructor = LearningRateDecayOptimizerConstructor
    with pytest.raises(ConfigError, match=f'Constructor of {package} knows'):
        check_constructor(cfg.optim_wrapper)


def test_a_loss_that_a_hook_puts_in_is_the_students(tmp_path):
    hook = dict(type='mmpretrain.SwitchRecipeHook', schedule=[NEW_LOSS])
    runner = short_run(PAIR, tmp_path, custom_hooks=[hook])
    assert runner.model.architecture.head.loss_module.loss_weight == 0.0
    assert runner.message_hub.get_scalar('train/student.loss').current() == 0.0


def test_a_recorder_that_was_left_behind_is_named():
    model = build(losses=('DKDLoss',))
    model.head.loss_module = CrossEntropyLoss()
    with pytest.raises(RuntimeError, match=r"'gt_labels' \(source 'head.loss_module'\) recorded"):
        model(*batch(), mode='loss')


def test_cached_logits_notice_mixing_that_a_hook_turns_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    torch.save(
        {'state_dict': MODELS.build(short_config(TEACHER, '').model).state_dict()}, 'teacher.pth'
    )
    options = {
        'model.teacher_ckpt': 'teacher.pth',
        'model.teacher_logits': 'logits',
        'model.data_preprocessor.to_onehot': True,
        'model.architecture.head.loss.use_soft': True,
    }
    dataset = short_config(PAIR, tmp_path).train_dataloader.dataset
    views = dict(type='mmkendall.FixedViews', num_views=2, dataset=dataset)
    cfg = short_config(PAIR, tmp_path, **options)
    cfg.train_dataloader.dataset = views
    cfg.train_dataloader.sampler = dict(type='mmkendall.ViewSampler')
    cfg.train_cfg.max_epochs = 2
    cfg.dump('config.py')
    tool = 'dataset_converters/cache_teacher_logits.py'
    assert call_tool(monkeypatch, tool, 'config.py') == 0
    cfg.custom_hooks = [SWITCH]
    runner = Runner.from_cfg(cfg)
    with pytest.raises(ValueError, match="SwitchRecipeHook's batch_augments"):
        runner.train()
    assert runner.iter == 2


# ---- settings of the student ----


def record_inputs(model: nn.Module) -> list:
    seen = []
    for part in (model.architecture, model.teacher):
        part.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    return seen


@pytest.mark.parametrize('given', ['config', 'object'])
@pytest.mark.parametrize('typed', [True, False])
def test_the_students_batch_augmentation_mixes_for_both(given, typed):
    options = config()
    options.architecture.train_cfg = MIXUP
    architecture = options.architecture.to_dict()
    preprocessor = dict(options.data_preprocessor)
    if not typed:
        del preprocessor['type']
    if given == 'object':
        architecture = MODELS.build(architecture)
    model = build_anew(architecture=architecture, data_preprocessor=preprocessor)
    seen = record_inputs(model)
    data = dict(inputs=list(batch()[0]), data_samples=batch()[1])
    alone = model.data_preprocessor(copy.deepcopy(data), False)['inputs']
    mixed = model.data_preprocessor(copy.deepcopy(data), True)
    model(**mixed, mode='loss')
    assert len(seen) == 2
    assert torch.equal(seen[0], seen[1])
    assert not torch.allclose(seen[0], alone)
    scores = torch.stack([sample.gt_score for sample in mixed['data_samples']])
    assert ((scores > 0) & (scores < 1)).any()


def test_a_data_preprocessor_that_cannot_mix_is_refused():
    options = config()
    options.architecture.train_cfg = MIXUP
    with pytest.raises(ValueError, match='a BaseDataPreprocessor, is the one that runs'):
        build_anew(
            architecture=options.architecture, data_preprocessor=dict(type='BaseDataPreprocessor')
        )
    with pytest.raises(ValueError, match='exclude each other'):
        build_anew(architecture=options.architecture, teacher_logits='somewhere')


def test_mmrazors_algorithm_that_would_lose_it_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ['model.architecture.train_cfg.augments.type=Mixup']
    options += ['model.architecture.train_cfg.augments.alpha=1.0', 'model.teacher_ckpt=None']
    options += ['allow_random_teacher=True']
    arguments = ['--work-dir', 'out', '--cfg-options', *options]
    assert call_tool(monkeypatch, 'train.py', DIGITS / PAIR, *arguments) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"error: the student's batch augmentation .* would not run", error)


def test_a_data_preprocessor_without_a_type_is_of_the_students(tmp_path):
    """As mmpretrain's own data-set configs have it."""
    cfg = short_config(PAIR, tmp_path)
    del cfg.model.data_preprocessor['type']
    model = Runner.from_cfg(cfg).model
    expected = build().data_preprocessor
    assert type(model.data_preprocessor) is type(expected)
    assert torch.equal(model.data_preprocessor.mean, expected.mean)
    with pytest.raises(ValueError, match=r"needs a type, got \['mean'\]: a Bare has none"):
        build_anew(architecture=Bare(), data_preprocessor=dict(mean=[0.0]))


@pytest.fixture
def said(monkeypatch) -> list[str]:
    """What is warned of, and none of it as said before."""
    texts = []
    loading.warn_once.cache_clear()
    for module in (loading, sys.modules['mmkendall.warn_once']):
        monkeypatch.setattr(module, 'print_log', lambda text, *_: texts.append(text))
    return texts


def test_settings_of_the_students_own_preprocessor_are_said_to_be_unused(said):
    architecture = config().architecture
    architecture.data_preprocessor = dict(mean=[1.0], std=[2.0], pad_value=3)
    build(architecture=architecture)
    (text,) = said
    assert 'are not used' in text
    assert 'pad_value, Normalization(mean=(1.0,), std=(2.0,)' in text


def test_steps_of_the_students_own_are_said_to_be_unused(said):
    class OwnSteps(Bare):
        def train_step(self, data, optim_wrapper):
            return {}

    warn_of_own_steps(OwnSteps())
    warn_of_own_steps(Bare())
    assert [text for text in said if text.startswith('train_step of the OwnSteps')] == said


def test_a_random_teacher_is_said(said):
    model = build()
    for _ in range(2):
        model(*batch(), mode='loss')
    assert len([text for text in said if 'random weights' in text]) == 1
    said.clear()
    loading.warn_once.cache_clear()
    other = build()
    other.load_state_dict(model.state_dict())
    other(*batch(), mode='loss')
    assert not said


# ---- no labels ----


def test_without_labels_and_the_students_loss():
    images, samples = batch()
    labelled, unlabelled = (
        build(calculate_student_loss=False)(images, data, mode='loss')
        for data in (samples, [plain(sample) for sample in samples])
    )
    assert labelled.keys() == unlabelled.keys() == {'distill.loss_kldivergence'}
    for name, loss in labelled.items():
        assert torch.equal(loss, unlabelled[name])
    with pytest.raises(RuntimeError, match=r"'gt_labels' .* the images have no labels"):
        build(calculate_student_loss=False, losses=('DKDLoss',))(
            images, [plain(sample) for sample in samples], mode='loss'
        )


def test_nothing_left_to_train():
    model = build(calculate_student_loss=False)
    model.distillation_stopped = True
    with pytest.raises(RuntimeError, match='nothing is left to train'):
        model(*batch(), mode='loss')

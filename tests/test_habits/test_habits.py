"""What hooks, loops, runners and constructors do with a plain model they do with a distilled one.

Each habit is one of mmengine's, mmpretrain's or mmrazor's that a config can turn on. Two
iterations and a validation are run with it on ``LogitDistill``, on the plain student and on
mmrazor's own ``SingleTeacherDistill``; a few, on the first, are in the short form. Where a habit
changes something, that is looked at. A habit that makes no sense is refused by the program that
it comes from, for the plain model too.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from mmpretrain.models import ArcFaceClsHead, LabelSmoothLoss
from torch import nn

from ..conftest import REPOSITORY

KD = REPOSITORY / 'configs/digits/kd-rank_logits_resnet18-w16_resnet18-w4_1xb64_digits.py'
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


@dataclass
class Habit:
    """One thing that a user turns on.

    Args:
        hooks: entries of ``custom_hooks``.
        options: settings merged into the config, by dotted keys.
        of_student: settings merged into the student's config.
        check: called with the runner after the training.
        refused: what the habit is refused with, where it is, as for the plain model.
        mmrazor_refuses: what SingleTeacherDistill ends with, where it does.
        kinds: the models it is for; all by default.
        needs_torch: the first version of torch that has it.
    """

    hooks: list[dict] = field(default_factory=list)
    options: dict = field(default_factory=dict)
    of_student: dict = field(default_factory=dict)
    check: Callable | None = None
    refused: str | None = None
    mmrazor_refuses: str | None = None
    kinds: tuple[str, ...] = ('plain', 'LogitDistill', 'SingleTeacherDistill')
    needs_torch: tuple[int, int] = (1, 13)


def hook(kind: str, **arguments) -> list[dict]:
    return [dict(type=kind, **arguments)]


def student_of(runner: Runner) -> nn.Module:
    return getattr(runner.model, 'architecture', runner.model)


def ema_moved(runner: Runner) -> None:
    (ema,) = (h for h in runner.hooks if type(h).__name__ == 'EMAHook')
    averages, weights = ema.ema_model.module.state_dict(), runner.model.state_dict()
    names = [name for name in weights if name.endswith('backbone.conv1.weight')]
    names = [name for name in names if not name.startswith('teacher')]
    assert names
    assert not any(torch.equal(averages[name], weights[name]) for name in names)


def loss_is_switched(runner: Runner) -> None:
    assert isinstance(student_of(runner).head.loss_module, LabelSmoothLoss)


def augments_are_switched(runner: Runner) -> None:
    assert runner.model.data_preprocessor.batch_augments is not None


def margins_are_set(runner: Runner) -> None:
    head = student_of(runner).head
    assert isinstance(head, ArcFaceClsHead)
    assert len(set(head.margins.tolist())) > 1


def loss_weight_is_warmed_up(runner: Runner) -> None:
    # 0 at the first iteration of two, half at the second.
    assert student_of(runner).head.loss_module.loss_weight == pytest.approx(0.5)


def layers_have_their_own_rate(runner: Runner) -> None:
    groups = runner.optim_wrapper.optimizer.param_groups
    trained = {id(p) for p in student_of(runner).parameters()}
    rates = {
        group['param_name'].removeprefix('architecture.'): group['lr_scale']
        for group in groups
        if id(group['params'][0]) in trained
    }
    assert rates['head.layers.head.weight'] == 1
    assert rates['backbone.patch_embed.projection.weight'] < 0.5


def head_has_its_own_rate(runner: Runner) -> None:
    rates = {
        id(group['params'][0]): group['lr']
        for group in runner.optim_wrapper.optimizer.param_groups
    }
    student = student_of(runner)
    assert rates[id(student.head.fc.weight)] == pytest.approx(0.5)
    assert rates[id(student.backbone.conv1.weight)] == pytest.approx(0.05)


def best_is_kept(runner: Runner) -> None:
    assert list(Path(runner.work_dir).glob('best_accuracy_top1_*.pth'))


def published_holds_weights_alone(runner: Runner) -> None:
    (path,) = Path(runner.work_dir).glob('epoch_1-*.pth')
    assert 'optimizer' not in torch.load(path)


def batches_norms_are_precise(runner: Runner) -> None:
    norm = student_of(runner).backbone.bn1
    assert norm.momentum == 0.1
    assert norm.running_mean.abs().sum() > 0


def ran_iterations(count: int) -> Callable:
    def check(runner: Runner) -> None:
        assert runner.iter == count

    return check


def is_stopped(runner: Runner) -> None:
    assert runner.model.distillation_stopped


VIT = dict(
    backbone=dict(
        _delete_=True, type='mmpretrain.VisionTransformer', img_size=8, patch_size=4,
        in_channels=1, arch=dict(embed_dims=16, num_layers=2, num_heads=2,
                                 feedforward_channels=32),
    ),
    neck=None,
    head=dict(
        _delete_=True, type='mmpretrain.VisionTransformerClsHead', num_classes=10, in_channels=16,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
    ),
)  # fmt: skip
ARCFACE = dict(
    head=dict(_delete_=True, type='mmpretrain.ArcFaceClsHead', num_classes=10, in_channels=32)
)
MIXUP = dict(augments=[dict(type='mmpretrain.Mixup', alpha=0.8)])
PIPELINE = [dict(type='mmpretrain.PackInputs')]

HABITS = {
    # mmengine's hooks
    'ema': Habit(hook('mmengine.EMAHook', momentum=0.1), check=ema_moved),
    'swa': Habit(
        hook('mmengine.EMAHook', ema_type='mmengine.StochasticWeightAverage'), check=ema_moved
    ),
    'annealed ema': Habit(
        hook('mmengine.EMAHook', ema_type='mmengine.MomentumAnnealingEMA', momentum=0.1),
        check=ema_moved,
    ),
    'ema with buffers': Habit(
        hook('mmengine.EMAHook', momentum=0.1, update_buffers=True), check=ema_moved
    ),
    'early stopping': Habit(
        hook('mmengine.EarlyStoppingHook', monitor='accuracy/top1', patience=1, min_delta=1e3),
        {'train_cfg.max_epochs': 4},
        check=ran_iterations(4),
    ),
    'profiler': Habit(
        hook('mmengine.ProfilerHook', by_epoch=False, profile_times=1, activity_with_cuda=False)
    ),
    'sync buffers': Habit(hook('mmengine.SyncBuffersHook')),
    'empty cache': Habit(hook('mmengine.EmptyCacheHook', after_iter=True)),
    'save best': Habit(
        options={
            'default_hooks.checkpoint': dict(type='CheckpointHook', interval=1, save_best='auto')
        },
        check=best_is_kept,
    ),
    'published keys': Habit(
        options={
            'default_hooks.checkpoint': dict(
                type='CheckpointHook', interval=1, published_keys=['meta', 'state_dict']
            )
        },
        check=published_holds_weights_alone,
    ),
    # mmpretrain's hooks
    'ema of mmpretrain': Habit(
        hook('mmpretrain.EMAHook', momentum=0.1, evaluate_on_origin=True), check=ema_moved
    ),
    'class numbers': Habit(
        hook('mmpretrain.ClassNumCheckHook'),
        mmrazor_refuses='num_classes` .* in ClsDataPreprocessor of SingleTeacherDistill',
    ),
    'precise bn': Habit(
        hook('mmpretrain.PreciseBNHook', num_samples=64), check=batches_norms_are_precise
    ),
    'visualization': Habit(
        options={'default_hooks.visualization': dict(type='VisualizationHook', enable=True)}
    ),
    'switched loss': Habit(
        hook(
            'mmpretrain.SwitchRecipeHook',
            schedule=[
                dict(
                    action_epoch=1,
                    loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1),
                )
            ],
        ),
        check=loss_is_switched,
        mmrazor_refuses='Cannot access the `loss_module` of the model',
    ),
    'switched augments': Habit(
        hook('mmpretrain.SwitchRecipeHook', schedule=[dict(action_epoch=1, batch_augments=MIXUP)]),
        check=augments_are_switched,
    ),
    'switched pipeline': Habit(
        hook(
            'mmpretrain.SwitchRecipeHook', schedule=[dict(action_epoch=1, train_pipeline=PIPELINE)]
        )
    ),
    'prototypes': Habit(hook('mmpretrain.PrepareProtoBeforeValLoopHook')),
    'adaptive margins': Habit(
        hook('mmpretrain.SetAdaptiveMarginsHook'),
        of_student=ARCFACE,
        check=margins_are_set,
        kinds=('plain',),
    ),
    'adaptive margins without them': Habit(
        hook('mmpretrain.SetAdaptiveMarginsHook'),
        refused='for ``ArcFaceClsHead``',
        mmrazor_refuses="'SingleTeacherDistill' object has no attribute 'head'",
    ),
    'warmed-up parameter': Habit(
        hook(
            'mmpretrain.WarmupParamHook',
            param_name='loss_weight',
            module_name='head.loss_module',
            warmup_epochs=1,
        ),
        of_student=dict(head=dict(loss=dict(loss_weight=1.0))),
        check=loss_weight_is_warmed_up,
        mmrazor_refuses="no attribute 'head'. Please check hook settings",
    ),
    'simsiam': Habit(hook('mmpretrain.SimSiamHook', fix_pred_lr=True, lr=0.1)),
    'densecl': Habit(
        hook('mmpretrain.DenseCLHook'), refused='must have attribute "loss_lambda" in DenseCL'
    ),
    'swav': Habit(
        hook('mmpretrain.SwAVHook', batch_size=32, frozen_layers_cfg={'head': 1}),
        check=ran_iterations(2),
        mmrazor_refuses="no attribute 'head'",
    ),
    # mmrazor's hooks
    'stopped distillation': Habit(
        hook('mmrazor.StopDistillHook', stop_epoch=1),
        {'train_cfg.max_epochs': 2},
        check=is_stopped,
        kinds=('LogitDistill', 'SingleTeacherDistill'),
    ),
    'estimated resources': Habit(
        hook(
            'mmrazor.EstimateResourcesHook',
            estimator_cfg=dict(
                type='mmrazor.ResourceEstimator',
                flops_params_cfg=dict(input_shape=(1, 1, 8, 8)),
            ),
        )
    ),
    # Loops
    'iterations': Habit(
        options={
            'train_cfg': dict(
                _delete_=True, type='IterBasedTrainLoop', max_iters=3, val_interval=2
            ),
            'default_hooks.checkpoint.by_epoch': False,
        },
        check=ran_iterations(3),
    ),
    'dynamic intervals': Habit(
        options={'train_cfg.dynamic_intervals': [(1, 1), (2, 2)], 'train_cfg.max_epochs': 2},
        check=ran_iterations(4),
    ),
    "mmengine's validation": Habit(options={'val_cfg': dict(_delete_=True, type='ValLoop')}),
    'half-precision validation': Habit(options={'val_cfg.fp16': True}),
    'our validation': Habit(
        options={'val_cfg': dict(_delete_=True, type='mmkendall.DistillValLoop')},
        mmrazor_refuses='needs a model of type mmkendall.LogitDistill',
        kinds=('LogitDistill', 'SingleTeacherDistill'),
    ),
    "mmrazor's validation": Habit(
        options={'val_cfg': dict(_delete_=True, type='mmrazor.SingleTeacherDistillValLoop')},
        kinds=('LogitDistill', 'SingleTeacherDistill'),
    ),
    # Optimizers, their wrappers and constructors
    'mixed precision on a CPU': Habit(
        options={'optim_wrapper.type': 'AmpOptimWrapper'},
        refused=None if torch.cuda.is_available() else 'is only available',
    ),
    'accumulated gradients': Habit(options={'optim_wrapper.accumulative_counts': 2}),
    'clipped gradients': Habit(options={'optim_wrapper.clip_grad': dict(max_norm=1.0)}),
    'lamb': Habit(options={'optim_wrapper.optimizer': dict(_delete_=True, type='Lamb', lr=1e-3)}),
    'lars': Habit(options={'optim_wrapper.optimizer': dict(_delete_=True, type='LARS', lr=0.1)}),
    'adan': Habit(options={'optim_wrapper.optimizer': dict(_delete_=True, type='Adan', lr=1e-3)}),
    'settings by parameter': Habit(
        options={
            'optim_wrapper.paramwise_cfg': dict(
                norm_decay_mult=0.0, bias_decay_mult=0.0, custom_keys={'head': dict(lr_mult=10.0)}
            )
        },
        check=head_has_its_own_rate,
    ),
    'layer-wise rates': Habit(
        options={
            'optim_wrapper.constructor': 'LearningRateDecayOptimWrapperConstructor',
            'optim_wrapper.paramwise_cfg': dict(layer_decay_rate=0.5),
        },
        of_student=VIT,
        check=layers_have_their_own_rate,
        mmrazor_refuses='has `get_layer_depth` method',
    ),
    'optimizers by part': Habit(
        options={
            'optim_wrapper': dict(
                _delete_=True,
                constructor='mmrazor.SeparateOptimWrapperConstructor',
                architecture=dict(
                    type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05, momentum=0.9)
                ),
            )
        },
        mmrazor_refuses='should be called by each optimizer separately',
        kinds=('SingleTeacherDistill',),
    ),
    'weight decay schedule': Habit(
        options={
            'param_scheduler': [
                dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=2),
                dict(type='CosineAnnealingWeightDecay', eta_min=0.1, T_max=2, by_epoch=False),
            ]
        }
    ),
    # The runner's options, and another runner
    'auto-scaled rate': Habit(options={'auto_scale_lr.enable': True}),
    'deterministic': Habit(options={'randomness': dict(seed=0, deterministic=True)}),
    'flexible runner': Habit(
        options={'runner_type': 'FlexibleRunner', 'strategy': dict(type='SingleDeviceStrategy')}
    ),
    # Without a C++ compiler: the backend that captures, and runs what it captured as it is.
    'compiled': Habit(
        options={'compile': dict(backend='eager')}, check=ran_iterations(2), needs_torch=(2, 0)
    ),
    'recomputed activations': Habit(options={'activation_checkpointing': ['backbone.layer1']}),
    'faster batch norms': Habit(options={'efficient_conv_bn_eval': ['backbone']}),
}


# Those that reach into the model, and one or two of each kind; the long form has them all.
QUICK = (
    'ema of mmpretrain', 'early stopping', 'class numbers', 'precise bn', 'switched loss',
    'switched augments', 'adaptive margins without them', 'warmed-up parameter', 'iterations',
    'settings by parameter', 'layer-wise rates', 'flexible runner',
)  # fmt: skip


def config(habit: Habit, kind: str, folder: Path) -> Config:
    """A digits config for one epoch of two iterations and a validation of 20 images."""
    cfg = Config.fromfile(str(KD))
    student = cfg.model.architecture
    if habit.of_student:
        student = Config(dict(model=student))
        student.merge_from_dict(dict(model=copy.deepcopy(habit.of_student)))
        student = student.model
    if kind == 'plain':
        cfg.model = student
        cfg.model.data_preprocessor = cfg.data_preprocessor
    else:
        cfg.model.type = {
            'LogitDistill': 'mmkendall.LogitDistill',
            'SingleTeacherDistill': 'mmrazor.SingleTeacherDistill',
        }[kind]
        cfg.model.architecture = student
        cfg.model.teacher.backbone.update(stem_channels=8, base_channels=8)
        cfg.model.teacher.head.in_channels = 64
        cfg.model.teacher_ckpt = None
        if student.head.type.endswith('VisionTransformerClsHead'):
            cfg.model.distiller.student_recorders.fc.source = 'head.layers.head'
    cfg.merge_from_dict(
        {
            'train_cfg.max_epochs': 1,
            'log_level': 'ERROR',
            'randomness.seed': 0,
            'param_scheduler': None,
            'default_hooks.logger.interval': 1,
            'default_hooks.checkpoint': dict(type='CheckpointHook', interval=-1),
            'val_evaluator': [dict(type='mmpretrain.Accuracy')],
            **{f'{loader}.dataset.indices': 64 for loader in LOADERS},
            **{f'{loader}.batch_size': 32 for loader in LOADERS},
        }
    )
    options = copy.deepcopy(habit.options)
    for key in ('activation_checkpointing', 'efficient_conv_bn_eval'):
        if key in options and kind != 'plain':
            options[key] = [f'architecture.{name}' for name in options[key]]
    for key in [key for key, value in options.items() if _replaces(value)]:
        value = options.pop(key)
        del value['_delete_']
        parent, _, name = key.rpartition('.')
        (cfg[parent] if parent else cfg)[name] = ConfigDict(value)
    cfg.merge_from_dict(options)
    cfg.custom_hooks = copy.deepcopy(habit.hooks)
    cfg.work_dir = str(folder)
    cfg.experiment_name = uuid4().hex
    return cfg


def _replaces(value) -> bool:
    return isinstance(value, dict) and value.get('_delete_', False)


class TeacherStays(Hook):
    """Whatever a user turns on, a teacher is at the end what it was at the start."""

    compared = False

    def before_train(self, runner: Runner) -> None:
        self.teacher = getattr(runner.model, 'teacher', None)
        if self.teacher is not None:
            self.given = copy.deepcopy(self.teacher.state_dict())

    def after_train(self, runner: Runner) -> None:
        if self.teacher is None:
            return
        now = self.teacher.state_dict()
        changed = [name for name in self.given if not torch.equal(self.given[name], now[name])]
        assert not changed, changed
        assert now.keys() == self.given.keys()
        self.compared = True


def run(habit: Habit, kind: str, folder: Path) -> None:
    cfg = config(habit, kind, folder)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
        refused = habit.refused
        if kind == 'SingleTeacherDistill':
            refused = habit.mmrazor_refuses or refused
        if refused is not None:
            with pytest.raises(Exception, match=refused):
                runner.train()
            return
        watch = TeacherStays()
        runner.register_hook(watch, 'LOWEST')
        runner.train()
    assert watch.compared == (kind != 'plain')
    assert 'val/accuracy/top1' in runner.message_hub.log_scalars
    if kind != 'plain' and habit.check is not is_stopped:
        assert 'train/distill.loss_rank' in runner.message_hub.log_scalars
    if habit.check:
        habit.check(runner)


def cases() -> list:
    parameters = []
    for name, habit in HABITS.items():
        for kind in habit.kinds:
            marks = [] if kind == 'LogitDistill' and name in QUICK else [pytest.mark.trust]
            parameters.append(pytest.param(name, kind, marks=marks, id=f'{name}-{kind}'))
    return parameters


@pytest.mark.parametrize(('name', 'kind'), cases())
def test_habit(name, kind, tmp_path):
    habit = HABITS[name]
    if tuple(map(int, torch.__version__.split('.')[:2])) < habit.needs_torch:
        pytest.skip(f'needs torch {habit.needs_torch}')
    run(habit, kind, tmp_path)


@pytest.mark.parametrize(
    'kind', ['LogitDistill', *(pytest.param(k, marks=pytest.mark.trust)
                               for k in ('plain', 'SingleTeacherDistill'))],
)  # fmt: skip
def test_augmentation_at_test_time(kind, tmp_path):
    cfg = config(Habit(), kind, tmp_path)
    flips = [dict(type='mmpretrain.RandomFlip', prob=probability) for probability in (0.0, 1.0)]
    cfg.test_dataloader.dataset.pipeline = [
        dict(type='TestTimeAug', transforms=[flips, [dict(type='mmpretrain.PackInputs')]])
    ]
    cfg.custom_hooks = [
        dict(type='PrepareTTAHook', tta_cfg=dict(type='mmpretrain.AverageClsScoreTTA'))
    ]
    cfg.test_evaluator = [dict(type='mmpretrain.Accuracy')]
    metrics = Runner.from_cfg(cfg).test()
    assert 0 <= metrics['accuracy/top1'] <= 100

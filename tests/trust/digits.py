"""A training of seconds that carries all that a run can carry from iteration to iteration.

Random images, dropout, momentum, a schedule that counts iterations and one that follows a metric,
a changing weight of the ranking loss, CTKD's temperature, averaged weights, a best checkpoint.
"""

from __future__ import annotations

from pathlib import Path

from ..conftest import REPOSITORY

BASE = REPOSITORY / 'configs/digits/ctkd-rank_logits_resnet18-w16_resnet18-w4_1xb64_digits.py'

CONFIG = """
_base_ = ['{base}']
allow_random_teacher = True
tiny = dict(
    _delete_=True,
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmpretrain.ResNet_CIFAR', depth=18, in_channels=1, stem_channels=2,
                  base_channels=2),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=16),
)
model = dict(
    architecture=dict(
        backbone=dict(stem_channels=2, base_channels=2),
        head=dict(type='mmpretrain.StackedLinearClsHead', in_channels=16, mid_channels=[16],
                  dropout_rate=0.2)),
    teacher=tiny,
    teacher_ckpt=None,
    distiller=dict(
        rank_loss=dict(backend='eager'),
        student_recorders=dict(fc=dict(source='head.layers.1.fc'))),
)
train_dataloader = dict(
    batch_size=16,
    num_workers={workers},
    persistent_workers={persistent},
    dataset=dict(
        indices={images},
        pipeline=[
            dict(type='mmpretrain.RandomCrop', crop_size=8, padding=1),
            dict(type='mmpretrain.RandomFlip', prob=0.5),
            dict(type='mmpretrain.PackInputs'),
        ]),
    sampler=dict(type='{sampler}'),
)
val_dataloader = dict(
    num_workers={workers}, persistent_workers={persistent}, dataset=dict(indices=50))
optim_wrapper = dict(accumulative_counts={accumulate})
custom_hooks = [
    dict(type='EMAHook', update_buffers=True),
    dict(type='mmkendall.RankWeightSchedule', schedule='cosine_decay'),
    {hook}
]
custom_imports = dict(imports=['tests.trust.faults'])
default_hooks = dict(
    checkpoint=dict(by_epoch={by_epoch}, interval={interval}, save_best='accuracy/top1'),
    finite_loss=dict(type='mmkendall.FiniteLossHook', action='{action}', max_skips=2),
    logger=dict(interval=3))
randomness = dict(seed=3)
"""
LOOPS = dict(
    epochs="""
param_scheduler = [
    dict(type='CosineAnnealingLR', T_max={length}, by_epoch=True, convert_to_iter_based=True),
    dict(type='ReduceOnPlateauParamScheduler', param_name='weight_decay', monitor='accuracy/top1',
         rule='greater', patience=1)]
train_cfg = dict(max_epochs={length})
""",
    iterations="""
param_scheduler = dict(_delete_=True, type='CosineAnnealingLR', T_max={length}, by_epoch=False)
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters={length}, val_interval=7)
log_processor = dict(by_epoch=False)
""",
)


def without_layout(code: str, **options) -> tuple[str, bool]:
    """In place of yapf, with which mmengine lays out the config in each checkpoint: a second."""
    return code, True


def write_config(
    folder: Path,
    loop: str = 'epochs',
    workers: int = 0,
    by_epoch: bool = True,
    interval: int = 1,
    sampler: str = 'DefaultSampler',
    accumulate: int = 1,
    images: int = 112,
    length: int | None = None,
    fault: str = '',
    hook: str = '',
    action: str = 'stop',
) -> Path:
    """Writes the config of such a training.

    Args:
        folder: where.
        loop: ``'epochs'`` or ``'iterations'``.
        workers: processes that load images, which stay from epoch to epoch.
        by_epoch, interval: when checkpoints are saved.
        sampler: of the training images.
        accumulate: iterations a step.
        images: how many there are to train on, in batches of 16.
        length: epochs or iterations; 6 or 42 of them by default.
        fault: arguments of a ``Fault``, if one is to happen.
        hook: one more, as it stands in a config.
        action: of the ``FiniteLossHook``.
    """
    path = folder / 'config.py'
    template = CONFIG + LOOPS[loop]
    path.write_text(
        template.format(
            base=BASE,
            workers=workers,
            persistent=workers > 0,
            by_epoch=by_epoch,
            interval=interval,
            sampler=sampler,
            accumulate=accumulate,
            images=images,
            length=length or (6 if loop == 'epochs' else 42),
            hook=f"dict(type='Fault', {fault})," if fault else hook,
            action=action,
        )
    )
    return path

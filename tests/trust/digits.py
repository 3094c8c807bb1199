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
        indices=112,
        pipeline=[
            dict(type='mmpretrain.RandomCrop', crop_size=8, padding=1),
            dict(type='mmpretrain.RandomFlip', prob=0.5),
            dict(type='mmpretrain.PackInputs'),
        ]),
    sampler=dict(type='{sampler}'),
)
val_dataloader = dict(dataset=dict(indices=50))
optim_wrapper = dict(accumulative_counts={accumulate})
custom_hooks = [
    dict(type='EMAHook', update_buffers=True),
    dict(type='mmkendall.RankWeightSchedule', schedule='cosine_decay'),
]
default_hooks = dict(
    checkpoint=dict(by_epoch={by_epoch}, interval={interval}, save_best='accuracy/top1'),
    logger=dict(interval=3))
randomness = dict(seed=3)
"""
LOOPS = dict(
    epochs="""
param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=6, by_epoch=True, convert_to_iter_based=True),
    dict(type='ReduceOnPlateauParamScheduler', param_name='weight_decay', monitor='accuracy/top1',
         rule='greater', patience=1)]
train_cfg = dict(max_epochs=6)
""",
    iterations="""
param_scheduler = dict(_delete_=True, type='CosineAnnealingLR', T_max=42, by_epoch=False)
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=42, val_interval=7)
log_processor = dict(by_epoch=False)
""",
)


def write_config(
    folder: Path,
    loop: str = 'epochs',
    workers: int = 0,
    by_epoch: bool = True,
    interval: int = 1,
    sampler: str = 'DefaultSampler',
    accumulate: int = 1,
    more: str = '',
) -> Path:
    """Writes the config of such a training.

    Args:
        folder: where.
        loop: ``'epochs'`` or ``'iterations'``.
        workers: processes that load images, which stay from epoch to epoch.
        by_epoch, interval: when checkpoints are saved.
        sampler: of the training images.
        accumulate: iterations a step.
        more: lines to add.
    """
    path = folder / 'config.py'
    path.write_text(
        CONFIG.format(
            base=BASE, workers=workers, persistent=workers > 0, by_epoch=by_epoch,
            interval=interval, sampler=sampler, accumulate=accumulate,
        ) + LOOPS[loop] + more
    )  # fmt: skip
    return path

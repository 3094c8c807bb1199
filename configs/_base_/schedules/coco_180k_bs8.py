# mdistiller's schedule for detection, about 12 epochs of COCO: 180,000 iterations of batches of 8
# with a learning rate of 0.01, divided by ten at 120,000 and 160,000. The warm-up is detectron2's.
# With mmdet's runtime, that counts iterations here.
_base_ = ['mmdet::_base_/default_runtime.py']

train_cfg = dict(type='IterBasedTrainLoop', max_iters=180000, val_interval=10000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', by_epoch=False, end=180000, milestones=[120000, 160000], gamma=0.1),
]
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4),
)
auto_scale_lr = dict(enable=False, base_batch_size=8)
default_hooks = dict(
    # Otherwise mmengine logs each validation as one of epoch 0.
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(
        type='mmkendall.AtomicCheckpointHook', by_epoch=False, interval=10000, max_keep_ckpts=2
    ),
    finite_loss=dict(type='mmkendall.FiniteLossHook'),
    exact_resume=dict(type='mmkendall.ExactResumeHook'),
)
log_processor = dict(by_epoch=False)

# ResNet-34 on a folder of images, from scratch: the teacher of docs/own_config.md. There is one
# folder a class: data/folder/train/CLASS/*.png and data/folder/val/CLASS/*.png. What depends on
# the images, and is another in a config of your own: data_root, num_classes, the size of 64, no
# flips.
_base_ = ['../_base_/default_runtime.py']

data_preprocessor = dict(
    type='mmpretrain.ClsDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)
model = dict(
    type='mmpretrain.ImageClassifier',
    data_preprocessor=data_preprocessor,
    backbone=dict(type='mmpretrain.ResNet', depth=34, out_indices=(3,)),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=10,
        in_channels=512,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        topk=(1,),
    ),
)

train_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    # A last batch of one image has no spread for BatchNorm.
    drop_last=True,
    dataset=dict(
        # Without a list of its own it takes the folders, sorted by name, as the classes.
        type='mmpretrain.CustomDataset',
        data_root='data/folder',
        data_prefix='train',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='mmpretrain.RandomResizedCrop', scale=64, crop_ratio_range=(0.6, 1.0)),
            dict(type='mmpretrain.PackInputs'),
        ],
    ),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=100,
    num_workers=2,
    persistent_workers=True,
    dataset=dict(
        type='mmpretrain.CustomDataset',
        data_root='data/folder',
        data_prefix='val',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='mmpretrain.ResizeEdge', scale=64, edge='short'),
            dict(type='mmpretrain.CenterCrop', crop_size=64),
            dict(type='mmpretrain.PackInputs'),
        ],
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='mmpretrain.Accuracy', topk=(1,))
test_dataloader = val_dataloader
test_evaluator = val_evaluator

optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=5e-4, nesterov=True)
)
param_scheduler = dict(
    type='CosineAnnealingLR', T_max=5, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=5, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=32)
default_hooks = dict(logger=dict(interval=10))

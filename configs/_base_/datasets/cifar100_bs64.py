# CIFAR-100: 50,000 images of 32x32 to train, 10,000 to test, in data/cifar100/cifar-100-python.
# mmpretrain fetches what is not there. Crop, flip and normalisation as in mdistiller.
data_preprocessor = dict(
    type='mmpretrain.ClsDataPreprocessor',
    num_classes=100,
    # 255 times (0.5071, 0.4867, 0.4408) and (0.2675, 0.2565, 0.2761), RGB as in the files.
    mean=[129.3105, 124.1085, 112.404],
    std=[68.2125, 65.4075, 70.4055],
    to_rgb=False,
)

train_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    dataset=dict(
        type='mmpretrain.CIFAR100',
        data_root='data/cifar100',
        split='train',
        pipeline=[
            dict(type='mmpretrain.RandomCrop', crop_size=32, padding=4),
            dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='mmpretrain.PackInputs'),
        ],
    ),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=250,
    num_workers=2,
    persistent_workers=True,
    dataset=dict(
        type='mmpretrain.CIFAR100',
        data_root='data/cifar100',
        split='test',
        pipeline=[dict(type='mmpretrain.PackInputs')],
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = [
    dict(type='mmpretrain.Accuracy', topk=(1, 5)),
    # Off until --cfg-options val_evaluator.1.teacher_results=FILE.pkl names the teacher's results.
    dict(type='mmkendall.KendallTau', teacher_results=None),
]
test_dataloader = val_dataloader
test_evaluator = val_evaluator

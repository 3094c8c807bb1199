# CIFAR-100 with a weak and a strong view of each image to train, for MLKD: crop and flip, and the
# same followed by two random changes and a grey square, as in MLKD's published code.
data_preprocessor = dict(
    type='mmkendall.MultiViewDataPreprocessor',
    num_classes=100,
    # RGB, 0 to 255.
    mean=[129.304, 124.070, 112.434],
    std=[68.170, 65.392, 70.418],
    to_rgb=False,
)

weak = [
    dict(type='mmpretrain.RandomCrop', crop_size=32, padding=4),
    dict(type='mmpretrain.RandomFlip', prob=0.5),
]
# One of 13 changes of a strength that is uniform in its range, or none. Those of colour, contrast,
# brightness and sharpness take away 5 to 95 %.
fade = dict(prob=1.0, magnitude_range=(0.05, 0.95), random_negative_prob=1.0)
move = dict(prob=1.0, magnitude_range=(0, 0.3), pad_val=0)
changes = [
    dict(type='mmpretrain.AutoContrast', prob=0.0),
    dict(type='mmpretrain.AutoContrast', prob=1.0),
    dict(type='mmpretrain.Brightness', **fade),
    dict(type='mmpretrain.ColorTransform', **fade),
    dict(type='mmpretrain.Contrast', **fade),
    dict(type='mmpretrain.Equalize', prob=1.0),
    dict(type='mmpretrain.Posterize', prob=1.0, magnitude_range=(4, 8)),
    dict(type='mmpretrain.Rotate', prob=1.0, magnitude_range=(0, 30), pad_val=0),
    dict(type='mmpretrain.Sharpness', **fade),
    dict(type='mmpretrain.Shear', direction='horizontal', **move),
    dict(type='mmpretrain.Shear', direction='vertical', **move),
    dict(type='mmpretrain.Solarize', prob=1.0, magnitude_range=(0, 256)),
    dict(type='mmpretrain.Translate', direction='horizontal', **move),
    dict(type='mmpretrain.Translate', direction='vertical', **move),
]
strong = [
    *weak,
    dict(
        type='mmpretrain.RandAugment',
        policies=changes,
        num_policies=2,
        magnitude_level=10,
        magnitude_std='inf',
        total_level=10,
    ),
    dict(
        type='mmpretrain.Cutout',
        magnitude_range=(0, 16),
        magnitude_std='inf',
        pad_val=(125, 123, 114),
        prob=1.0,
    ),
]
train_dataloader = dict(
    batch_size=64,
    num_workers=2,
    dataset=dict(
        type='mmpretrain.CIFAR100',
        data_root='data/cifar100',
        split='train',
        pipeline=[
            dict(type='mmpretrain.MultiView', num_views=[1, 1], transforms=[weak, strong]),
            dict(type='mmpretrain.PackInputs'),
        ],
    ),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=2,
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

# CIFAR-100 with a weak and a strong view of each image to train, for MLKD. The strong view is
# what the authors' code does, in mmpretrain's transforms: two of FixMatch's 14 operations, each of
# a strength drawn evenly from its range, then a grey square of half the side at most.
_base_ = ['./cifar100_bs64.py']

data_preprocessor = dict(type='mmkendall.MultiViewDataPreprocessor')

crop_and_flip = [
    dict(type='mmpretrain.RandomCrop', crop_size=32, padding=4),
    dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'),
]
always = dict(prob=1.0)
darker = dict(magnitude_range=(-0.95, -0.05), prob=1.0, random_negative_prob=0.0)
moved = dict(magnitude_range=(0, 0.3), pad_val=0, prob=1.0, interpolation='nearest')
operations = [
    dict(type='mmpretrain.AutoContrast', **always),
    dict(type='mmpretrain.Brightness', **darker),
    dict(type='mmpretrain.ColorTransform', **darker),
    dict(type='mmpretrain.Contrast', **darker),
    dict(type='mmpretrain.Equalize', **always),
    # The identity is one of the 14.
    dict(type='mmpretrain.Brightness', magnitude=0.0),
    dict(type='mmpretrain.Posterize', magnitude_range=(4, 8), **always),
    dict(
        type='mmpretrain.Rotate',
        magnitude_range=(0, 30),
        pad_val=0,
        interpolation='nearest',
        **always,
    ),
    dict(type='mmpretrain.Sharpness', **darker),
    dict(type='mmpretrain.Shear', direction='horizontal', **moved),
    dict(type='mmpretrain.Shear', direction='vertical', **moved),
    dict(type='mmpretrain.Solarize', magnitude_range=(0, 256), **always),
    dict(type='mmpretrain.Translate', direction='horizontal', **moved),
    dict(type='mmpretrain.Translate', direction='vertical', **moved),
]
strong = [
    *crop_and_flip,
    dict(
        type='mmpretrain.RandAugment',
        policies=operations,
        num_policies=2,
        magnitude_level=10,
        magnitude_std='inf',
    ),
    dict(
        type='mmpretrain.Cutout',
        magnitude_level=10,
        magnitude_range=(0, 16),
        magnitude_std='inf',
        pad_val=(125, 123, 114),
        prob=1.0,
    ),
]
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(
                type='mmpretrain.MultiView', num_views=[1, 1], transforms=[crop_and_flip, strong]
            ),
            dict(type='mmpretrain.PackInputs'),
        ]
    )
)

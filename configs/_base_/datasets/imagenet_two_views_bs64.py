# ImageNet with a weak and a strong view of each image to train, for MLKD. The strong view is
# timm's RandAugment in mmpretrain's words: two operations of strength 9 of 10.
_base_ = ['./imagenet_bs64.py']

data_preprocessor = dict(type='mmkendall.MultiViewDataPreprocessor')

crop_and_flip = [
    dict(type='mmpretrain.RandomResizedCrop', scale=224),
    dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'),
]
strong = [
    *crop_and_flip,
    dict(
        type='mmpretrain.RandAugment',
        policies='timm_increasing',
        num_policies=2,
        total_level=10,
        magnitude_level=9,
        magnitude_std=0.5,
    ),
]
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(
                type='mmpretrain.MultiView', num_views=[1, 1], transforms=[crop_and_flip, strong]
            ),
            dict(type='mmpretrain.PackInputs'),
        ]
    )
)

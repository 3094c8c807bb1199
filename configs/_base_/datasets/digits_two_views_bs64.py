# The digits with a weak and a strong view of each image to train, for MLKD.
_base_ = ['./digits_bs64.py']

data_preprocessor = dict(type='mmkendall.MultiViewDataPreprocessor')

weak = [dict(type='mmpretrain.RandomCrop', crop_size=8, padding=1)]
strong = [
    dict(type='mmpretrain.RandomCrop', crop_size=8, padding=1),
    dict(type='mmpretrain.Rotate', angle=15.0, pad_val=0, prob=1.0),
    dict(type='mmpretrain.Cutout', shape=3, pad_val=0, prob=0.5),
]
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='mmpretrain.MultiView', num_views=[1, 1], transforms=[weak, strong]),
            dict(type='mmpretrain.PackInputs'),
        ]
    )
)

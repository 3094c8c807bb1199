# The digits with four fixed views of each image to train, one an epoch: for teacher logits on
# disk.
_base_ = ['./digits_bs64.py']

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mmkendall.FixedViews',
        num_views=4,
        seed=0,
        dataset=dict(
            type='mmkendall.Digits',
            split='train',
            pipeline=[
                dict(type='mmpretrain.RandomCrop', crop_size=8, padding=1),
                dict(type='mmpretrain.PackInputs'),
            ],
        ),
    ),
    sampler=dict(_delete_=True, type='mmkendall.ViewSampler', shuffle=True),
)

# For grey images of 32x32: 73,335 parameters with 119 classes. torch's own weights in the head,
# where mmpretrain's are smaller. A config gives head.num_classes.
mlp = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmkendall.MLP'),
    head=dict(type='mmpretrain.LinearClsHead', in_channels=64, init_cfg=None),
)

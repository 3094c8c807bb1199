# For grey images of 32x32: 47,223 parameters with 119 classes. torch's own weights in the head,
# where mmpretrain's are smaller. A config gives head.num_classes.
lenet = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmkendall.LeNet'),
    head=dict(type='mmpretrain.LinearClsHead', in_channels=84, init_cfg=None),
)

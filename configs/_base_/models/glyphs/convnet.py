# For grey images of 32x32: 609,511 parameters with 119 classes. torch's own weights in the head,
# where mmpretrain's are smaller. A config gives head.num_classes.
convnet = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmkendall.ConvNet'),
    head=dict(type='mmpretrain.LinearClsHead', in_channels=512, init_cfg=None),
)

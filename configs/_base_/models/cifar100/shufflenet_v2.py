# ShuffleNetV2 of width 1 for CIFAR-100: 1,355,528 parameters.
shufflenet_v2 = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmkendall.CifarShuffleNetV2', widen_factor=1.0),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=100,
        in_channels=1024,
        init_cfg=None,  # torch's own
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        topk=(1, 5),
    ),
)

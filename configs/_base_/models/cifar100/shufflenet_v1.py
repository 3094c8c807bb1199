# ShuffleNetV1 with 3 groups for CIFAR-100: 949,258 parameters.
shufflenet_v1 = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmkendall.CifarShuffleNetV1'),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=100,
        in_channels=960,
        init_cfg=None,  # torch's own
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        topk=(1, 5),
    ),
)

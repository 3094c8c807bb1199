# MobileNet of width 1 for ImageNet: 4,231,976 parameters.
mobilenet_v1 = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmkendall.MobileNetV1'),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=1000,
        in_channels=1024,
        init_cfg=None,  # torch's own
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        topk=(1, 5),
    ),
)

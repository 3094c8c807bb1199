# MobileNetV2 of width 0.5 for CIFAR-100: 812,836 parameters.
mobilenet_v2 = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmkendall.CifarMobileNetV2', widen_factor=0.5),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=100,
        in_channels=1280,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        topk=(1, 5),
    ),
)

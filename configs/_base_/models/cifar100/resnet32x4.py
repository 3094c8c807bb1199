# ResNet-32x4 for CIFAR-100: 7,433,860 parameters.
resnet32x4 = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmkendall.CifarResNet', depth=32, stem_channels=32, base_channels=64),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=100,
        in_channels=256,
        init_cfg=None,  # torch's own
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        topk=(1, 5),
    ),
)

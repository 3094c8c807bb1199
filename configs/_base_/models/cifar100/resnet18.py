# ResNet-18 for CIFAR-100: 11,220,132 parameters.
resnet18 = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmkendall.CifarStemResNet', depth=18),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=100,
        in_channels=512,
        init_cfg=None,  # torch's own
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        topk=(1, 5),
    ),
)

# ResNet-50 for CIFAR-100: 23,705,252 parameters.
resnet50 = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmkendall.CifarStemResNet', depth=50),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=100,
        in_channels=2048,
        init_cfg=None,  # torch's own
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        topk=(1, 5),
    ),
)

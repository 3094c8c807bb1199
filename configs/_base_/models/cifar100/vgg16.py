# VGG-16 for CIFAR-100: 14,774,436 parameters.
vgg16 = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmkendall.CifarVGG', depth=16),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=100,
        in_channels=512,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        topk=(1, 5),
    ),
)

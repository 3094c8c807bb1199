# VGG-8 for CIFAR-100: 3,965,028 parameters.
vgg8 = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmkendall.CifarVGG', depth=8),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=100,
        in_channels=512,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        topk=(1, 5),
    ),
)

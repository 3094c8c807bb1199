# VGG-13 for CIFAR-100: 9,462,180 parameters.
vgg13 = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmkendall.CifarVGG', depth=13),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=100,
        in_channels=512,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        topk=(1, 5),
    ),
)

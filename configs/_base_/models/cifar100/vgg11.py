# VGG-11 for CIFAR-100: 9,277,284 parameters.
vgg11 = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmkendall.CifarVGG', depth=11),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=100,
        in_channels=512,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        topk=(1, 5),
    ),
)

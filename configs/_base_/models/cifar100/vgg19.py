# VGG-19 for CIFAR-100: 20,086,692 parameters.
vgg19 = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmkendall.CifarVGG', depth=19),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=100,
        in_channels=512,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        topk=(1, 5),
    ),
)

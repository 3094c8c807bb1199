# ResNet-8x4 for CIFAR-100: 1,233,540 parameters.
resnet8x4 = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmkendall.CifarResNet', depth=8, stem_channels=32, base_channels=64),
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

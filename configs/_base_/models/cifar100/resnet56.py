# ResNet-56 for CIFAR-100: 861,620 parameters.
resnet56 = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmkendall.CifarResNet', depth=56),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=100,
        in_channels=64,
        init_cfg=None,  # torch's own
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        topk=(1, 5),
    ),
)

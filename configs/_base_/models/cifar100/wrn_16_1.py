# WRN-16-1 for CIFAR-100: 180,916 parameters.
wrn_16_1 = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmkendall.WideResNet', depth=16, widen_factor=1),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=100,
        in_channels=64,
        # torch's own weights, but a zero bias
        init_cfg=dict(type='Uniform', layer='Linear', a=-(64**-0.5), b=64**-0.5),
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        topk=(1, 5),
    ),
)

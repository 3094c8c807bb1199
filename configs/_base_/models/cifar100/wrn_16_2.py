# WRN-16-2 for CIFAR-100: 703,284 parameters.
wrn_16_2 = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmkendall.WideResNet', depth=16, widen_factor=2),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=100,
        in_channels=128,
        # torch's own weights, but a zero bias
        init_cfg=dict(type='Uniform', layer='Linear', a=-(128**-0.5), b=128**-0.5),
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        topk=(1, 5),
    ),
)

# PiT-Ti of timm for CIFAR-100, resized to 224x224 in the network: 4,615,972 parameters. It needs
# timm.
pit_tiny = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(
        type='mmkendall.ResizedInput',
        size=224,
        backbone=dict(type='mmpretrain.TIMMBackbone', model_name='pit_ti_224'),
    ),
    neck=dict(type='mmkendall.FirstToken'),
    head=dict(
        type='mmpretrain.VisionTransformerClsHead',
        num_classes=100,
        in_channels=256,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        topk=(1, 5),
        # mmpretrain's own is 0, whose equal logits have no z-score.
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
    ),
)

# DeiT-Ti without its distillation token, for CIFAR-100 at 32x32 in patches of 4x4:
# 5,380,132 parameters. mmpretrain can't train the variant with the token.
deit_tiny = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(
        type='mmpretrain.VisionTransformer', arch='deit-tiny', img_size=32, patch_size=4
    ),
    neck=None,
    head=dict(
        type='mmpretrain.VisionTransformerClsHead',
        num_classes=100,
        in_channels=192,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        topk=(1, 5),
        # mmpretrain's own is 0, whose equal logits have no z-score.
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
    ),
    init_cfg=[
        dict(type='TruncNormal', layer='Linear', std=0.02),
        dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
    ],
)

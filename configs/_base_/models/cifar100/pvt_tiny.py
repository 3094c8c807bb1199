# PVT-Ti (v1) of mmdet for CIFAR-100, resized to 224x224 in the network: 12,767,588 parameters. It
# needs mmdet. mmdet's is the variant for detection: the mean over the last stage stands in for the
# class token, and each stage ends with the normalisation that the paper's has after the last.
pvt_tiny = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(
        type='mmkendall.ResizedInput',
        size=224,
        backbone=dict(
            type='mmdet.PyramidVisionTransformer',
            num_layers=[2, 2, 2, 2],
            out_indices=(3,),
            norm_after_stage=True,
        ),
    ),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.VisionTransformerClsHead',
        num_classes=100,
        in_channels=512,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        topk=(1, 5),
        # mmpretrain's own is 0, whose equal logits have no z-score.
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
    ),
)

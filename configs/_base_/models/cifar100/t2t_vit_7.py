# T2T-ViT-7 for CIFAR-100, resized to 224x224 in the network: 4,024,010 parameters. mmpretrain
# fixes the strides of its tokens at 16 in all: an image of 32x32 runs as well, but leaves it 2x2
# tokens.
t2t_vit_7 = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(
        type='mmkendall.ResizedInput',
        size=224,
        backbone=dict(
            type='mmpretrain.T2T_ViT',
            img_size=224,
            embed_dims=256,
            num_layers=7,
            t2t_cfg=dict(token_dims=64, use_performer=False),
            layer_cfgs=dict(num_heads=4, feedforward_channels=512),
            init_cfg=[
                dict(type='TruncNormal', layer='Linear', std=0.02),
                dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
            ],
        ),
    ),
    neck=None,
    head=dict(
        type='mmpretrain.VisionTransformerClsHead',
        num_classes=100,
        in_channels=256,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        topk=(1, 5),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
    ),
)

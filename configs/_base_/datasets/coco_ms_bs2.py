# COCO in batches of 2, the shorter side drawn from 640 to 800 pixels: detectron2's augmentation,
# which mdistiller trains its detectors with. Data: data/coco/{annotations,train2017,val2017}.
_base_ = ['mmdet::_base_/datasets/coco_detection.py']

train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(
                type='RandomChoiceResize',
                scales=[(1333, size) for size in range(640, 801, 32)],
                keep_ratio=True,
            ),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackDetInputs'),
        ]
    )
)

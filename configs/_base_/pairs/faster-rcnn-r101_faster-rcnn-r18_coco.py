_base_ = ['./faster-rcnn-r101_faster-rcnn-r50_coco.py']

student = dict(
    backbone=dict(depth=18, init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18')),
    neck=dict(in_channels=[64, 128, 256, 512]),
)

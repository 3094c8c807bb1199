_base_ = [
    '../../_base_/pairs/pspnet-r101_pspnet-r18_cityscapes.py',
    '../../_base_/methods/kd_segmentation.py',
]

model = dict(
    architecture=_base_.student,
    teacher=_base_.teacher,
    teacher_ckpt=_base_.teacher_ckpt,
)

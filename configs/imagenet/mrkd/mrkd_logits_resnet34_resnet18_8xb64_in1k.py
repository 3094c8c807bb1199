_base_ = [
    '../../_base_/pairs/resnet34_resnet18_in1k.py',
    '../../_base_/methods/mrkd_in1k.py',
    '../../_base_/datasets/imagenet_bs64.py',
    '../../_base_/schedules/imagenet_100e_bs512_lr0.1.py',
    '../../_base_/default_runtime.py',
]

model = dict(
    architecture=_base_.student,
    teacher=_base_.teacher,
    teacher_ckpt=_base_.teacher_ckpt,
    data_preprocessor=_base_.data_preprocessor,
)

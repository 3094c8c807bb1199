_base_ = [
    '../../_base_/pairs/resnet50_mobilenet-v1_in1k.py',
    '../../_base_/methods/pld.py',
    '../../_base_/datasets/imagenet_bs64.py',
    '../../_base_/schedules/imagenet_100e_bs512.py',
    '../../_base_/default_runtime.py',
]

model = dict(
    architecture=_base_.student,
    teacher=_base_.teacher,
    teacher_ckpt=_base_.teacher_ckpt,
    data_preprocessor=_base_.data_preprocessor,
)

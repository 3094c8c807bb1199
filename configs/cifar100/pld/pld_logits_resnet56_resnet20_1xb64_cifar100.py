_base_ = [
    '../../_base_/pairs/resnet56_resnet20_cifar100.py',
    '../../_base_/methods/pld.py',
    '../../_base_/datasets/cifar100_bs64.py',
    '../../_base_/schedules/cifar100_240e.py',
    '../../_base_/default_runtime.py',
]

model = dict(
    architecture=_base_.student,
    teacher=_base_.teacher,
    teacher_ckpt=_base_.teacher_ckpt,
    data_preprocessor=_base_.data_preprocessor,
)

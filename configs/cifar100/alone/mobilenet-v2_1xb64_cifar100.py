_base_ = [
    '../../_base_/models/cifar100/mobilenet_v2.py',
    '../../_base_/datasets/cifar100_bs64.py',
    '../../_base_/schedules/cifar100_240e_lr0.01.py',
    '../../_base_/default_runtime.py',
]

model = _base_.mobilenet_v2

_base_ = [
    '../../_base_/models/cifar100/wrn_40_1.py',
    '../../_base_/datasets/cifar100_bs64.py',
    '../../_base_/schedules/cifar100_240e.py',
    '../../_base_/default_runtime.py',
]

model = _base_.wrn_40_1

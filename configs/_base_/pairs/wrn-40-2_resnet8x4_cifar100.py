_base_ = [
    '../models/cifar100/wrn_40_2.py',
    '../models/cifar100/resnet8x4.py',
]

teacher = _base_.wrn_40_2
teacher_ckpt = 'work_dirs/wrn-40-2_1xb64_cifar100/epoch_240.pth'
student = _base_.resnet8x4

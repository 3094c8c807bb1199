_base_ = [
    '../models/cifar100/resnet56.py',
    '../models/cifar100/pvt_tiny.py',
]

teacher = _base_.resnet56
teacher_ckpt = 'work_dirs/resnet56_1xb64_cifar100/epoch_240.pth'
student = _base_.pvt_tiny

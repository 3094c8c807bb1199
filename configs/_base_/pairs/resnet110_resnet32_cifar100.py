_base_ = [
    '../models/cifar100/resnet110.py',
    '../models/cifar100/resnet32.py',
]

teacher = _base_.resnet110
teacher_ckpt = 'work_dirs/resnet110_1xb64_cifar100/epoch_240.pth'
student = _base_.resnet32

_base_ = [
    '../models/cifar100/vgg13.py',
    '../models/cifar100/vgg8.py',
]

teacher = _base_.vgg13
teacher_ckpt = 'work_dirs/vgg13_1xb64_cifar100/epoch_240.pth'
student = _base_.vgg8

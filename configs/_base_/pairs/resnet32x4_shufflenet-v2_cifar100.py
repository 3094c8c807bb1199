_base_ = [
    '../models/cifar100/resnet32x4.py',
    '../models/cifar100/shufflenet_v2.py',
]

teacher = _base_.resnet32x4
teacher_ckpt = 'work_dirs/resnet32x4_1xb64_cifar100/epoch_240.pth'
student = _base_.shufflenet_v2

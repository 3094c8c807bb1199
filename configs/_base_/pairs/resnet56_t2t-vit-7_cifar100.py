_base_ = [
    '../models/cifar100/resnet56.py',
    '../models/cifar100/t2t_vit_7.py',
]

teacher = _base_.resnet56
teacher_ckpt = 'work_dirs/resnet56_1xb64_cifar100/epoch_240.pth'
student = _base_.t2t_vit_7

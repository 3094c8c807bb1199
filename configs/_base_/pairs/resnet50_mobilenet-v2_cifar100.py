_base_ = [
    '../models/cifar100/resnet50.py',
    '../models/cifar100/mobilenet_v2.py',
]

teacher = _base_.resnet50
teacher_ckpt = 'work_dirs/resnet50_1xb64_cifar100/epoch_240.pth'
student = _base_.mobilenet_v2

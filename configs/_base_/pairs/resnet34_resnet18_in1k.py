_base_ = [
    '../models/imagenet/resnet34.py',
    '../models/imagenet/resnet18.py',
]

teacher = _base_.resnet34
teacher_ckpt = 'https://download.openmmlab.com/mmclassification/v0/resnet/resnet34_8xb32_in1k_20210831-f257d4e6.pth'
student = _base_.resnet18

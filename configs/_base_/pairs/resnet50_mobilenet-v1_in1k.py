_base_ = [
    '../models/imagenet/resnet50.py',
    '../models/imagenet/mobilenet_v1.py',
]

teacher = _base_.resnet50
teacher_ckpt = 'https://download.openmmlab.com/mmclassification/v0/resnet/resnet50_8xb32_in1k_20210831-ea4938fc.pth'
student = _base_.mobilenet_v1

_base_ = ['../models/glyphs/convnet.py', '../models/glyphs/lenet.py']

teacher = dict(_base_.convnet, head=dict(_base_.convnet.head, num_classes=10))
student = dict(_base_.lenet, head=dict(_base_.lenet.head, num_classes=10))
teacher_ckpt = 'work_dirs/convnet_1xb128_fashion-mnist/epoch_16.pth'

# MLKD's 480 epochs for VGG13 or ResNet-50 to MobileNetV2.
_base_ = ['./cifar100_480e.py']

optim_wrapper = dict(optimizer=dict(lr=0.0025))

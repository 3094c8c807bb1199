# 240 epochs for a MobileNetV2 or a ShuffleNet as the student, and for some pairs of MRKD.
_base_ = ['./cifar100_240e.py']

optim_wrapper = dict(optimizer=dict(lr=0.01))

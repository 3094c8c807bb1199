# MLKD's 480 epochs for a ShuffleNetV2 as the student.
_base_ = ['./cifar100_480e.py']

optim_wrapper = dict(optimizer=dict(lr=0.01))

# MLKD's 480 epochs for WRN-40-2 to MobileNetV2 (the value is that of LSKD's repository).
_base_ = ['./cifar100_480e.py']

optim_wrapper = dict(optimizer=dict(lr=0.005))

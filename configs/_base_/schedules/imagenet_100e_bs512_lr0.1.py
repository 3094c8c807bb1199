# For MLKD's ResNet-34 to ResNet-18, and for MRKD.
_base_ = ['./imagenet_100e_bs512.py']

optim_wrapper = dict(optimizer=dict(lr=0.1))

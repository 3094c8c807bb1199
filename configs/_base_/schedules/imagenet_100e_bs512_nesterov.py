# DIST's schedule has Nesterov's momentum, and 0.1 for a batch of 256: 0.2 for 512.
_base_ = ['./imagenet_100e_bs512.py']

optim_wrapper = dict(optimizer=dict(nesterov=True))

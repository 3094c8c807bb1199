# LSKD on ImageNet. What the authors used there could not be found: T = 2, CE 0.1 and KL 9 are the
# values of the CIFAR-100 recipe, and torch's own weights in the head as in its networks.
_base_ = ['./lskd.py']

model = dict(architecture=dict(head=dict(init_cfg=None)))

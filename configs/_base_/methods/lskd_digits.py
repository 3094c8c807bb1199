# LSKD on the digits with the values of its CIFAR-100 recipe and, as there, torch's own weights in
# the head: mmpretrain's are smaller, and the gradient of a z-score, as one over the deviation of
# the logits, derails the first steps.
_base_ = ['./lskd.py']

model = dict(architecture=dict(head=dict(init_cfg=None)))

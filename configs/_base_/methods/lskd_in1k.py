# LSKD on ImageNet. What the authors used there could not be found: T = 2, CE 0.1 and KL 9 are the
# values of the CIFAR-100 recipe.
_base_ = ['./lskd.py']

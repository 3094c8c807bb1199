# DIST on ImageNet with the authors' values: T = 1, CE 1, 2 between the classes of an image and 2
# between the images of a class.
_base_ = ['./dist.py']

model = dict(distiller=dict(distill_losses=dict(loss_dist=dict(tau=1))))

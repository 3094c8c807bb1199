# The teacher, alone.
_base_ = [
    '../_base_/pairs/convnet_lenet_fashion-mnist.py',
    '../_base_/datasets/fashion_mnist_bs128.py',
    '../_base_/schedules/glyphs_16e.py',
]

model = _base_.teacher
optim_wrapper = dict(optimizer=dict(weight_decay=5e-4))

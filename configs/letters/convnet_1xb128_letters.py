# The teacher, alone.
_base_ = [
    '../_base_/pairs/convnet_lenet_letters.py',
    '../_base_/datasets/letters_bs128.py',
    '../_base_/schedules/glyphs_16e.py',
]

model = _base_.teacher
optim_wrapper = dict(optimizer=dict(weight_decay=5e-4))

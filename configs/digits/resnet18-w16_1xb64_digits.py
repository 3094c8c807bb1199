# The teacher of the digits pair, alone.
_base_ = [
    '../_base_/pairs/resnet18-w16_resnet18-w4_digits.py',
    '../_base_/datasets/digits_bs64.py',
    '../_base_/schedules/digits_12e.py',
    '../_base_/default_runtime.py',
]

model = _base_.teacher

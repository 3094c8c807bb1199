# A student, alone.
_base_ = [
    '../_base_/pairs/convnet_mlp_letters.py',
    '../_base_/datasets/letters_bs128.py',
    '../_base_/schedules/glyphs_16e.py',
]

model = _base_.student

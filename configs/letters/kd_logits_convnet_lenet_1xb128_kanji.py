_base_ = [
    '../_base_/pairs/convnet_lenet_kanji.py',
    '../_base_/methods/kd_letters.py',
    '../_base_/datasets/kanji_bs128.py',
    '../_base_/schedules/glyphs_16e.py',
]

model = dict(
    type='mmkendall.LogitDistill',
    architecture=_base_.student,
    teacher=_base_.teacher,
    teacher_ckpt=_base_.teacher_ckpt,
    data_preprocessor=_base_.data_preprocessor,
)

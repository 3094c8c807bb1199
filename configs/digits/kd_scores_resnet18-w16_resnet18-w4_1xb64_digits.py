# KD on the digits pair with the teacher's logits from disk, all or only the highest of each image:
# docs/teachers.md has the commands that write them.
_base_ = [
    '../_base_/pairs/resnet18-w16_resnet18-w4_digits.py',
    '../_base_/methods/kd.py',
    '../_base_/datasets/digits_views_bs64.py',
    '../_base_/schedules/digits_12e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    type='mmkendall.LogitDistill',
    architecture=_base_.student,
    teacher=_base_.teacher,
    teacher_ckpt='work_dirs/resnet18-w16_1xb64_digits/epoch_12.pth',
    teacher_logits='work_dirs/digits_topk/teacher_logits',
    data_preprocessor=_base_.data_preprocessor,
)

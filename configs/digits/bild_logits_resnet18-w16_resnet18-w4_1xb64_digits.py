_base_ = [
    '../_base_/pairs/resnet18-w16_resnet18-w4_digits.py',
    '../_base_/methods/bild.py',
    '../_base_/datasets/digits_bs64.py',
    '../_base_/schedules/digits_12e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    architecture=_base_.student,
    teacher=_base_.teacher,
    teacher_ckpt='work_dirs/resnet18-w16_1xb64_digits/epoch_12.pth',
    data_preprocessor=_base_.data_preprocessor,
    # Chosen on held-out training images: docs/digits.md.
    distiller=dict(distill_losses=dict(loss_bild=dict(loss_weight=3.0))),
)

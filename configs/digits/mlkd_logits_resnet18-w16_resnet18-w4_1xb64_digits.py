_base_ = [
    '../_base_/pairs/resnet18-w16_resnet18-w4_digits.py',
    '../_base_/methods/mlkd.py',
    '../_base_/datasets/digits_two_views_bs64.py',
    '../_base_/schedules/digits_12e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    architecture=_base_.student,
    teacher=_base_.teacher,
    teacher_ckpt='work_dirs/resnet18-w16_1xb64_digits/epoch_12.pth',
    data_preprocessor=_base_.data_preprocessor,
    # The batch's term grows with the images per class of a batch, the classes' term with their
    # square, and there are ten times as many as on CIFAR-100. These weights and the learning rate
    # were chosen on held-out training images: docs/digits.md.
    distiller=dict(distill_losses=dict(loss_mlkd=dict(batch_weight=0.1, class_weight=0.01))),
)
optim_wrapper = dict(optimizer=dict(lr=0.02))

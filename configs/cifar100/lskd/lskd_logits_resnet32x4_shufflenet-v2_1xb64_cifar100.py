_base_ = [
    '../../_base_/pairs/resnet32x4_shufflenet-v2_cifar100.py',
    '../../_base_/methods/lskd.py',
    '../../_base_/datasets/cifar100_bs64.py',
    '../../_base_/schedules/cifar100_240e_lr0.01.py',
    '../../_base_/default_runtime.py',
]

model = dict(
    architecture=_base_.student,
    teacher=_base_.teacher,
    teacher_ckpt=_base_.teacher_ckpt,
    data_preprocessor=_base_.data_preprocessor,
    distiller=dict(distill_losses=dict(loss_kl=dict(tau=2, loss_weight=9.0))),
)

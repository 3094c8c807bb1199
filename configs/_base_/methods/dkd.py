# DKD (Zhao et al., CVPR 2022) with the weights of its CIFAR-100 recipe: T = 4, alpha 1, a linear
# warm-up of 20 of the 240 epochs, CE 1. beta is 8 for the pairs with a ResNet-32x4, for WRN-40-2
# to ShuffleNetV1 and for ResNet-50 to MobileNetV2; 6 for VGG13's pairs and WRN-40-2 to another
# WRN; 2 for ResNet-56 to ResNet-20 and ResNet-110 to ResNet-32.
_base_ = ['./logits.py']

model = dict(
    architecture=dict(head=dict(loss=dict(loss_weight=1.0))),
    distiller=dict(
        student_recorders=dict(
            gt_labels=dict(type='ModuleInputs', source='head.loss_module'),
        ),
        distill_losses=dict(
            loss_dkd=dict(
                type='mmkendall.DKDLoss',
                temperature=4.0,
                alpha=1.0,
                beta=8.0,
                warmup_epochs=20,
                loss_weight=1.0,
            )
        ),
        loss_forward_mappings=dict(
            loss_dkd=dict(
                preds_S=dict(from_student=True, recorder='fc'),
                preds_T=dict(from_student=False, recorder='fc'),
                gt_labels=dict(from_student=True, recorder='gt_labels', data_idx=1),
            )
        ),
    ),
)

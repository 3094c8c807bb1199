# MLKD (Jin et al., CVPR 2023) with the values of its CIFAR-100 recipe: KD at a base of T = 4 and
# at 2, 3, 5 and 6, the batch's and the classes' Gram matrices, all on a weak and a strong view; CE
# 0.1 on each view, KD 0.9. Trained for 480 epochs with a learning rate of 0.025. It needs data
# with two views (_base_/datasets/*_two_views*.py), which name their data preprocessor. The two
# weights are the defaults of the authors' code, whose configs name no others.
_base_ = ['./logits.py']

model = dict(
    # 0.2 on the mean over both views is 0.1 on each.
    architecture=dict(head=dict(loss=dict(loss_weight=0.2))),
    distiller=dict(
        distill_losses=dict(
            loss_mlkd=dict(
                type='mmkendall.MLKDLoss',
                temperatures=[4.0, 2.0, 3.0, 5.0, 6.0],
                instance_weight=1.0,
                batch_weight=1.0,
                class_weight=1.0,
                num_views=2,
                loss_weight=0.9,
            )
        ),
        loss_forward_mappings=dict(
            loss_mlkd=dict(
                preds_S=dict(from_student=True, recorder='fc'),
                preds_T=dict(from_student=False, recorder='fc'),
            )
        ),
    ),
)

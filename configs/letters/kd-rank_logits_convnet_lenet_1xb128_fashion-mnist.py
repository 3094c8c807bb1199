# KD and the ranking loss; its weight and steepness are not tuned.
_base_ = ['./kd_logits_convnet_lenet_1xb128_fashion-mnist.py']

model = dict(
    distiller=dict(
        distill_losses=dict(
            loss_rank=dict(type='mmkendall.KendallRankLoss', steepness=10.0, loss_weight=5.0)
        ),
        loss_forward_mappings=dict(
            loss_rank=dict(
                preds_S=dict(from_student=True, recorder='fc'),
                preds_T=dict(from_student=False, recorder='fc'),
            )
        ),
    )
)

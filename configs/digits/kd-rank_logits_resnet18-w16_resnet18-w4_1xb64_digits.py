# KD and the ranking loss, with the same weight (gamma = alpha). The steepness is the best of 1, 10
# and 100 on held-out training images: docs/digits.md.
_base_ = ['./kd_logits_resnet18-w16_resnet18-w4_1xb64_digits.py']

model = dict(
    distiller=dict(
        distill_losses=dict(
            loss_rank=dict(type='mmkendall.KendallRankLoss', steepness=1.0, loss_weight=0.9)
        ),
        loss_forward_mappings=dict(
            loss_rank=dict(
                preds_S=dict(from_student=True, recorder='fc'),
                preds_T=dict(from_student=False, recorder='fc'),
            )
        ),
    )
)

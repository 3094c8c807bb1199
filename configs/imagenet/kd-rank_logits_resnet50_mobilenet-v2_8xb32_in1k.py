# mmrazor's KD with the ranking loss beside it, at the same weight (gamma = alpha).
_base_ = ['mmrazor::distill/mmcls/kd/kd_logits_resnet50_mobilenet-v2_8xb32_in1k.py']

model = dict(
    distiller=dict(
        distill_losses=dict(
            loss_rank=dict(type='mmkendall.KendallRankLoss', steepness=100.0, loss_weight=3)
        ),
        loss_forward_mappings=dict(
            loss_rank=dict(
                preds_S=dict(from_student=True, recorder='fc'),
                preds_T=dict(from_student=False, recorder='fc'),
            )
        ),
    )
)

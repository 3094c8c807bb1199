# mmrazor's WSLD with the ranking loss beside it, at the same weight (gamma = alpha).
_base_ = ['mmrazor::distill/mmcls/wsld/wsld_logits_resnet34_resnet18_8xb32_in1k.py']

model = dict(
    distiller=dict(
        distill_losses=dict(
            loss_rank=dict(type='mmkendall.KendallRankLoss', steepness=100.0, loss_weight=2.5)
        ),
        loss_forward_mappings=dict(
            loss_rank=dict(
                preds_S=dict(from_student=True, recorder='fc'),
                preds_T=dict(from_student=False, recorder='fc'),
            )
        ),
    )
)

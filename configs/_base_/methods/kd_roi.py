# KD on the class logits of a two-stage detector, background included: T = 1 as in mdistiller's
# DKD for detection, KL 1 beside the detector's own losses, our choice.
model = dict(
    type='mmkendall.RoILogitDistill',
    distiller=dict(
        _scope_='mmrazor',
        type='ConfigurableDistiller',
        student_recorders=dict(cls=dict(type='ModuleOutputs', source='roi_head.bbox_head.fc_cls')),
        teacher_recorders=dict(cls=dict(type='ModuleOutputs', source='roi_head.bbox_head.fc_cls')),
        distill_losses=dict(loss_kl=dict(type='KLDivergence', tau=1, loss_weight=1.0)),
        loss_forward_mappings=dict(
            loss_kl=dict(
                preds_S=dict(from_student=True, recorder='cls'),
                preds_T=dict(from_student=False, recorder='cls'),
            )
        ),
    ),
)

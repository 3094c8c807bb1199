# KD on the class logits of every pixel of a segmentation head, averaged over the pixels. T = 1 and
# KL 1 are our choice.
model = dict(
    type='mmkendall.LogitDistill',
    distiller=dict(
        _scope_='mmrazor',
        type='ConfigurableDistiller',
        student_recorders=dict(logits=dict(type='ModuleOutputs', source='decode_head.conv_seg')),
        teacher_recorders=dict(logits=dict(type='ModuleOutputs', source='decode_head.conv_seg')),
        distill_losses=dict(
            loss_kl=dict(
                type='mmkendall.DenseLogitLoss',
                num_classes=19,
                loss=dict(type='KLDivergence', tau=1, loss_weight=1.0),
            )
        ),
        loss_forward_mappings=dict(
            loss_kl=dict(
                preds_S=dict(from_student=True, recorder='logits'),
                preds_T=dict(from_student=False, recorder='logits'),
            )
        ),
    ),
)

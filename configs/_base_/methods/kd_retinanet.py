# KD on the class logits of RetinaNet's head, at the 512 anchors of an image where the teacher sees
# most; as many as the boxes of Faster R-CNN. All values are our choice.
model = dict(
    type='mmkendall.LogitDistill',
    distiller=dict(
        _scope_='mmrazor',
        type='ConfigurableDistiller',
        # mmdet's detectors call forward itself, which ModuleOutputs does not see.
        student_recorders=dict(
            head=dict(
                type='MethodOutputs',
                source='mmdet.models.dense_heads.anchor_head.AnchorHead.forward',
            )
        ),
        teacher_recorders=dict(
            head=dict(
                type='MethodOutputs',
                source='mmdet.models.dense_heads.anchor_head.AnchorHead.forward',
            )
        ),
        distill_losses=dict(
            loss_kl=dict(
                type='mmkendall.DenseLogitLoss',
                num_classes=80,
                num_positions=512,
                loss=dict(type='KLDivergence', tau=1, loss_weight=1.0),
            )
        ),
        loss_forward_mappings=dict(
            loss_kl=dict(
                preds_S=dict(from_student=True, recorder='head', data_idx=0),
                preds_T=dict(from_student=False, recorder='head', data_idx=0),
            )
        ),
    ),
)

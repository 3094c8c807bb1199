# DKD (Zhao et al., CVPR 2022) on the class logits of a two-stage detector with mdistiller's
# values: T = 1, alpha 1, beta 0.25, no warm-up. The target of an empty box is the background.
_base_ = ['./kd_roi.py']

model = dict(
    distiller=dict(
        student_recorders=dict(
            targets=dict(
                type='MethodOutputs',
                source='mmdet.models.roi_heads.bbox_heads.bbox_head.BBoxHead.get_targets',
            )
        ),
        distill_losses=dict(
            _delete_=True,
            loss_dkd=dict(
                type='mmkendall.DKDLoss', temperature=1.0, alpha=1.0, beta=0.25, warmup_epochs=0
            ),
        ),
        loss_forward_mappings=dict(
            _delete_=True,
            loss_dkd=dict(
                preds_S=dict(from_student=True, recorder='cls'),
                preds_T=dict(from_student=False, recorder='cls'),
                gt_labels=dict(from_student=True, recorder='targets', data_idx=0),
            ),
        ),
    ),
)

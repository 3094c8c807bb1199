# The ranking loss alone beside the labels, with the teacher's logits from disk, all or only the
# highest of each image: the others are last and tied. docs/teachers.md has the commands that write
# them.
_base_ = ['./kd_scores_resnet18-w16_resnet18-w4_1xb64_digits.py']

model = dict(
    architecture=dict(head=dict(loss=dict(loss_weight=1.0))),
    distiller=dict(
        distill_losses=dict(
            _delete_=True,
            loss_rank=dict(type='mmkendall.KendallRankLoss', steepness=10.0, loss_weight=5.0),
        ),
        loss_forward_mappings=dict(
            _delete_=True,
            loss_rank=dict(
                preds_S=dict(from_student=True, recorder='fc'),
                preds_T=dict(from_student=False, recorder='fc'),
            ),
        ),
    ),
)

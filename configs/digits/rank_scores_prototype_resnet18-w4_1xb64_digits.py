# The student of the digits pair, taught by distances to prototypes of the classes. The nearest
# class is the best, and what a difference of distances means is not known, so the loss reads their
# order alone. docs/teachers.md has the commands that make the teacher logits.
_base_ = ['./kd_scores_cosine_resnet18-w4_1xb64_digits.py']

model = dict(
    architecture=dict(head=dict(loss=dict(loss_weight=1.0))),
    teacher_logits='work_dirs/digits_prototype/teacher_logits',
    distiller=dict(
        distill_losses=dict(
            _delete_=True,
            loss_rank=dict(
                type='mmkendall.KendallRankLoss',
                surrogate='hard_teacher',
                steepness=10.0,
                loss_weight=5.0,
            ),
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

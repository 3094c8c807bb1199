# The student of the digits pair, taught by cosines to class means, as a model of images and texts
# gives them. They lie close together, so the teacher has a temperature of its own, far below the
# student's. docs/teachers.md has the commands that make the teacher logits.
_base_ = [
    '../_base_/pairs/resnet18-w16_resnet18-w4_digits.py',
    '../_base_/methods/scores.py',
    '../_base_/datasets/digits_views_bs64.py',
    '../_base_/schedules/digits_12e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    architecture=_base_.student,
    teacher_logits='work_dirs/digits_cosine/teacher_logits',
    data_preprocessor=_base_.data_preprocessor,
    distiller=dict(
        distill_losses=dict(
            loss_kd=dict(
                type='mmkendall.KDLoss', temperature_S=4.0, temperature_T=0.1, loss_weight=0.9
            )
        ),
        loss_forward_mappings=dict(
            loss_kd=dict(
                preds_S=dict(from_student=True, recorder='fc'),
                preds_T=dict(from_student=False, recorder='fc'),
            )
        ),
    ),
)

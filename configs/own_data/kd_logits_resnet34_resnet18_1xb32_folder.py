# KD on a folder of images, as mmrazor's kd_logits_resnet34_resnet18_8xb32_in1k.py does it on
# ImageNet: the same algorithm, networks, recorders, loss and weight. Data and schedule are the
# teacher's.
_base_ = ['./resnet34_1xb32_folder.py']

student = dict(**_base_.model)
student['backbone'] = dict(**_base_.model.backbone)
student['backbone']['depth'] = 18
logits = dict(type='ModuleOutputs', source='head.fc')

model = dict(
    _delete_=True,
    type='mmrazor.SingleTeacherDistill',
    data_preprocessor=_base_.data_preprocessor,
    architecture=student,
    teacher=_base_.model,
    teacher_ckpt='work_dirs/resnet34_1xb32_folder/epoch_5.pth',
    distiller=dict(
        _scope_='mmrazor',
        type='ConfigurableDistiller',
        student_recorders=dict(fc=logits),
        teacher_recorders=dict(fc=logits),
        distill_losses=dict(loss_kl=dict(type='KLDivergence', tau=1, loss_weight=3)),
        loss_forward_mappings=dict(
            loss_kl=dict(
                preds_S=dict(from_student=True, recorder='fc'),
                preds_T=dict(from_student=False, recorder='fc'),
            )
        ),
    ),
)
# Logs the teacher's accuracy beside the student's.
val_cfg = dict(_delete_=True, type='mmrazor.SingleTeacherDistillValLoop')

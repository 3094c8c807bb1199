# DIST (Huang et al., NeurIPS 2022): T = 4, CE 1, 2 between the classes of an image and 2 between
# the images of a class: dist_cifar.yaml of the authors' image_classification_sota.
model = dict(
    type='mmrazor.SingleTeacherDistill',
    architecture=dict(head=dict(loss=dict(type='mmpretrain.CrossEntropyLoss', loss_weight=1.0))),
    distiller=dict(
        _scope_='mmrazor',
        type='ConfigurableDistiller',
        student_recorders=dict(fc=dict(type='ModuleOutputs', source='head.fc')),
        teacher_recorders=dict(fc=dict(type='ModuleOutputs', source='head.fc')),
        distill_losses=dict(
            loss_dist=dict(
                type='DISTLoss',
                inter_loss_weight=1.0,
                intra_loss_weight=1.0,
                tau=4,
                loss_weight=2.0,
            )
        ),
        loss_forward_mappings=dict(
            loss_dist=dict(
                logits_S=dict(from_student=True, recorder='fc'),
                logits_T=dict(from_student=False, recorder='fc'),
            )
        ),
    ),
)

# What the methods on a classifier's logits share: mmrazor's algorithm, the student's own loss, and
# the outputs of the last layer of both networks as the records that the losses read.
model = dict(
    type='mmrazor.SingleTeacherDistill',
    architecture=dict(head=dict(loss=dict(type='mmpretrain.CrossEntropyLoss'))),
    distiller=dict(
        _scope_='mmrazor',
        type='ConfigurableDistiller',
        student_recorders=dict(fc=dict(type='ModuleOutputs', source='head.fc')),
        teacher_recorders=dict(fc=dict(type='ModuleOutputs', source='head.fc')),
    ),
)

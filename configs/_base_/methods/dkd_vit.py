# DKD for a vision transformer. No published values were found: these are those of the CNN pair
# with the same teacher, ResNet-56 to ResNet-20.
_base_ = ['./dkd.py']

model = dict(
    distiller=dict(
        student_recorders=dict(fc=dict(source='head.layers.head')),
        distill_losses=dict(loss_dkd=dict(beta=2.0)),
    ),
)

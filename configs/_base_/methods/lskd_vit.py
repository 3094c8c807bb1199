# LSKD for a vision transformer with the values of the authors' config for DeiT-Ti: T = 3, CE 1,
# KL 9.
_base_ = ['./lskd.py']

model = dict(
    architecture=dict(head=dict(loss=dict(loss_weight=1.0))),
    distiller=dict(
        student_recorders=dict(fc=dict(source='head.layers.head')),
        distill_losses=dict(loss_kl=dict(tau=3, loss_weight=9.0)),
    ),
)

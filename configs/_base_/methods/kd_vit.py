# KD for a vision transformer, with a temperature of 3 as in LSKD's configs for them, CE 1, KL 1.
_base_ = ['./kd.py']

model = dict(
    architecture=dict(head=dict(loss=dict(loss_weight=1.0))),
    distiller=dict(
        student_recorders=dict(fc=dict(source='head.layers.head')),
        distill_losses=dict(loss_kl=dict(tau=3, loss_weight=1.0)),
    ),
)

# KD on ImageNet with mdistiller's values: T = 1, CE 0.5, KL 0.5.
_base_ = ['./kd.py']

model = dict(
    architecture=dict(head=dict(loss=dict(loss_weight=0.5))),
    distiller=dict(distill_losses=dict(loss_kl=dict(tau=1, loss_weight=0.5))),
)

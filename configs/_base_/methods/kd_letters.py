# KD on letters, kanji and Fashion-MNIST: a cross-entropy of weight 1 and a temperature of 8, not
# the 0.1 and 4 of CIFAR-100.
_base_ = ['./kd.py']

model = dict(
    architecture=dict(head=dict(loss=dict(loss_weight=1.0))),
    distiller=dict(distill_losses=dict(loss_kl=dict(tau=8))),
)

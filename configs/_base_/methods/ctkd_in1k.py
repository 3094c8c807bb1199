# CTKD on ImageNet with the values of the authors' command: a temperature of 1 to 21, the reversal
# rising over the first 5 of the 120 epochs, CE 1, KL 1.
_base_ = ['./ctkd.py']

model = dict(
    architecture=dict(head=dict(loss=dict(loss_weight=1.0))),
    distiller=dict(distill_losses=dict(loss_ctkd=dict(ramp_epochs=5, loss_weight=1.0))),
)

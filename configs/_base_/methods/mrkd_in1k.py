# MRKD on ImageNet, with 1,000 classes: weights of 2 and 2, which its file for ResNet-34 to
# ResNet-18 has. Its file for ResNet-50 to MobileNetV1 states none, and takes these here, too.
# torch's own weights in the head, as in its networks: the gradient of a z-score is as one over the
# deviation of the logits.
_base_ = ['./mrkd.py']

model = dict(
    architecture=dict(head=dict(init_cfg=None)),
    distiller=dict(
        distill_losses=dict(
            loss_kendall=dict(steepness=0.24975, loss_weight=2.0),
            loss_kendall_batch=dict(loss_weight=2.0),
            loss_pearson=dict(loss_weight=2.0),
        )
    ),
)

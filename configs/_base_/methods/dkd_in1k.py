# DKD on ImageNet with mdistiller's values: T = 1, alpha 1, a warm-up of one epoch, CE 1. beta is
# 0.5 for ResNet-34 to ResNet-18 and 2 for ResNet-50 to MobileNetV1.
_base_ = ['./dkd.py']

model = dict(
    distiller=dict(distill_losses=dict(loss_dkd=dict(temperature=1.0, beta=0.5, warmup_epochs=1)))
)

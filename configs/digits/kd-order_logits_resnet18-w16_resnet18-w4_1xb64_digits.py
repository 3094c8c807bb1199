# KD on the normal scores of the teacher's ranks: the teacher's order alone, whatever its logits
# are. At the temperature of 4 its softmax is that of 4 times the normal scores. The spread was
# chosen on held-out training images: docs/digits.md.
_base_ = ['./kd_logits_resnet18-w16_resnet18-w4_1xb64_digits.py']

model = dict(
    distiller=dict(
        connectors=dict(order=dict(type='mmkendall.OrderScores', spread=16.0)),
        loss_forward_mappings=dict(loss_kl=dict(preds_T=dict(connector='order'))),
    )
)

# LSKD and the ranking loss, with the same weight (gamma = alpha). The steepness is the best of 1,
# 10 and 100 on held-out training images: docs/digits.md.
_base_ = ['./lskd_logits_resnet18-w16_resnet18-w4_1xb64_digits.py']

model = dict(
    distiller=dict(
        type='mmkendall.RankAugmentedDistiller',
        rank_weight=1.0,
        rank_loss=dict(steepness=1.0),
    )
)

# WTTM and the ranking loss, with the same weight (gamma = alpha). The steepness is the better of 1
# and 100 on held-out training images: docs/digits.md.
_base_ = ['./wttm_logits_resnet18-w16_resnet18-w4_1xb64_digits.py']

model = dict(
    distiller=dict(
        type='mmkendall.RankAugmentedDistiller',
        rank_weight=1.0,
        rank_loss=dict(steepness=1.0),
    )
)

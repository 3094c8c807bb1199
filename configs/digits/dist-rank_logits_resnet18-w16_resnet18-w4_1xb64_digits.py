# DIST and the ranking loss, with the same weight (gamma = alpha).
_base_ = ['./dist_logits_resnet18-w16_resnet18-w4_1xb64_digits.py']

model = dict(
    distiller=dict(
        type='mmkendall.RankAugmentedDistiller',
        rank_weight=1.0,
        rank_loss=dict(steepness=100.0),
    )
)

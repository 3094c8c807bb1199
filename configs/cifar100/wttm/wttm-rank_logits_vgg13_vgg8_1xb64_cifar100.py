# WTTM and the ranking loss, with the same weight (gamma = alpha). A steepness
# of 100 is the best on CIFAR-100, second-hand: see docs/sources.md.
_base_ = ['./wttm_logits_vgg13_vgg8_1xb64_cifar100.py']

model = dict(
    distiller=dict(
        type='mmkendall.RankAugmentedDistiller',
        rank_weight=1.0,
        rank_loss=dict(steepness=100.0),
    )
)

# DIST and the ranking loss, with the same weight (gamma = alpha). 100 is the steepness
# that reviews of the paper give as its best on CIFAR-100.
_base_ = ['./dist_logits_resnet56_pit-tiny_1xb128_cifar100.py']

model = dict(
    distiller=dict(
        type='mmkendall.RankAugmentedDistiller',
        rank_weight=1.0,
        rank_loss=dict(steepness=100.0),
    )
)

# KD and the ranking loss, with the same weight (gamma = alpha). 100 is the steepness
# that reviews of the paper give as its best on CIFAR-100.
_base_ = ['./kd_logits_retinanet-r101_retinanet-r50_8xb2-1x_coco.py']

model = dict(
    distiller=dict(
        type='mmkendall.RankAugmentedDistiller',
        rank_weight=1.0,
        rank_loss=dict(steepness=100.0),
    )
)

# DKD and the ranking loss, with the same weight (gamma = alpha). A steepness
# of 100 is the best on CIFAR-100, second-hand: see docs/sources.md.
_base_ = ['./dkd_logits_faster-rcnn-r50_faster-rcnn-mobilenet-v2_4xb2-180k_coco.py']

model = dict(
    distiller=dict(
        type='mmkendall.RankAugmentedDistiller',
        rank_weight=1.0,
        rank_loss=dict(steepness=100.0),
    )
)

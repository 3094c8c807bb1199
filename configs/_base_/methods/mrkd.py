# MRKD (https://github.com/ebolk/MonotonicRankDistillation, 2024; no paper was found): CE 1, no KL,
# 32 times Kendall's tau of the z-scored logits, of an image's classes and of a class's images,
# each; 32 times Pearson's correlation of the logits, of both, too. The Pearson terms have a weight
# of 16 in one of its files and of 32 in two. Its z-scores divide by one less than the
# number of logits and ours by their number, so its steepness of 0.25 is here 0.25 times 99/100 on
# the classes and, for a batch of 64, 0.25 times 63/64 on the images. On several processes each
# compares the images of its own part of the batch.
_base_ = ['./logits.py']

model = dict(
    architecture=dict(head=dict(loss=dict(loss_weight=1.0))),
    distiller=dict(
        distill_losses=dict(
            loss_kendall=dict(
                type='mmkendall.KendallRankLoss',
                surrogate='diffkendall',
                standardize=True,
                steepness=0.2475,
                loss_weight=32.0,
            ),
            loss_kendall_batch=dict(
                type='mmkendall.KendallRankLoss',
                surrogate='diffkendall',
                standardize=True,
                across='batch',
                steepness=0.24609375,
                loss_weight=32.0,
            ),
            loss_pearson=dict(type='mmkendall.PearsonLoss', loss_weight=32.0),
        ),
        loss_forward_mappings=dict(
            loss_kendall=dict(
                preds_S=dict(from_student=True, recorder='fc'),
                preds_T=dict(from_student=False, recorder='fc'),
            ),
            loss_kendall_batch=dict(
                preds_S=dict(from_student=True, recorder='fc'),
                preds_T=dict(from_student=False, recorder='fc'),
            ),
            loss_pearson=dict(
                preds_S=dict(from_student=True, recorder='fc'),
                preds_T=dict(from_student=False, recorder='fc'),
            ),
        ),
    ),
)

# LSKD (Sun et al., CVPR 2024) on KD with the values of its CIFAR-100 recipe for most pairs:
# z-scored logits at T = 2, CE 0.1, KL 9. A ranking loss beside it ranks the z-scored logits.
_base_ = ['./logits.py']

model = dict(
    architecture=dict(head=dict(loss=dict(loss_weight=0.1))),
    distiller=dict(
        # C - 1 in the deviation, as in the authors' code.
        connectors=dict(zscore=dict(type='mmkendall.LogitStandardization', unbiased=True)),
        distill_losses=dict(loss_kl=dict(type='KLDivergence', tau=2, loss_weight=9.0)),
        loss_forward_mappings=dict(
            loss_kl=dict(
                preds_S=dict(from_student=True, recorder='fc', connector='zscore'),
                preds_T=dict(from_student=False, recorder='fc', connector='zscore'),
            )
        ),
    ),
)

# WTTM (Zheng and Yang, ICLR 2024): CE 1, an exponent of 0.2, which is a temperature of 5, and a
# weight of 4. These stand in the one example with WTTM in the authors' README, for VGG13 to VGG8
# and there beside CRD. The values of each pair are in an appendix of the paper that could not be
# had, so all pairs have these.
_base_ = ['./logits.py']

model = dict(
    architecture=dict(head=dict(loss=dict(loss_weight=1.0))),
    distiller=dict(
        distill_losses=dict(
            loss_wttm=dict(type='mmkendall.WTTMLoss', temperature=5.0, loss_weight=4.0)
        ),
        loss_forward_mappings=dict(
            loss_wttm=dict(
                preds_S=dict(from_student=True, recorder='fc'),
                preds_T=dict(from_student=False, recorder='fc'),
            )
        ),
    ),
)

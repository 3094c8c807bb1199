# MLKD on ImageNet: KD at a base of T = 1 and at 2, 3, 5 and 6; CE 0.5 on each view, KD 0.5.
_base_ = ['./mlkd.py']

model = dict(
    # 1 on the mean over both views is 0.5 on each.
    architecture=dict(head=dict(loss=dict(loss_weight=1.0))),
    distiller=dict(
        distill_losses=dict(
            loss_mlkd=dict(temperatures=[1.0, 2.0, 3.0, 5.0, 6.0], loss_weight=0.5)
        )
    ),
)

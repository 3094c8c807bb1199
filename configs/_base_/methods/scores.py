# A teacher that is no network: its scores come from disk as teacher logits, and the recorder `fc`
# of the teacher is only the name by which a loss reads them. CE 0.1, as beside KD.
_base_ = ['./logits.py']

model = dict(
    type='mmkendall.LogitDistill',
    architecture=dict(head=dict(loss=dict(loss_weight=0.1))),
    teacher=None,
)

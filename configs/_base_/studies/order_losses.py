# KD, and losses on an order beside it and in its place, for data sets whose configs say which
# network and which data. Teacher logits come from disk.
_base_ = ['./eight_epochs.py']

cached = dict(model=dict(teacher_logits='written by the study'))
kd = dict(type='mmkendall.KDLoss', loss_weight=0.9)
rank = dict(type='mmkendall.KendallRankLoss', steepness=10.0)
temperatures = {'kd.temperature_S': [2.0, 4.0, 8.0, 16.0]}

study = dict(
    arms={
        'CE': dict(),
        'KD': dict(change=cached, terms=dict(own=1.0, kd=kd), grid=temperatures),
        'KD + ranking': dict(
            change=cached,
            terms=dict(own=1.0, kd=kd, rank=dict(**rank, loss_weight=5.0)),
            grid=temperatures,
            beside='KD',
        ),
        'CE + ranking': dict(
            change=cached,
            terms=dict(own=1.0, rank=rank),
            grid={'rank.loss_weight': [5.0, 20.0]},
        ),
        'CE + ListMLE': dict(
            change=cached,
            terms=dict(own=1.0, listmle=dict(type='mmkendall.ListMLELoss')),
            grid={'listmle.loss_weight': [0.3, 1.0]},
        ),
        'KD on normal scores': dict(
            change=cached,
            terms=dict(
                own=1.0,
                kd=dict(**kd, connector_T=dict(type='mmkendall.OrderScores', spread=4.0)),
            ),
            grid=temperatures,
        ),
    },
    seeds=[1, 2, 3],
    baseline='KD',
)

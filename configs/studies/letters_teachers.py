# One teacher that was trained with smoothed labels, one that is the mean of two networks of which
# one has logits four times as wide, cosines, distances to prototypes and margins of an SVM on the
# features of one, and a student that lags further behind. Letters; each arm is tuned for each case
# on the validation set.
_base_ = ['../_base_/studies/eight_epochs.py']
PAIR = '../letters/kd_logits_convnet_lenet_1xb128_letters.py'
cached = dict(model=dict(teacher_logits='written by the study'))
convnet = dict(config='../letters/convnet_1xb128_letters.py')
smoothed = dict(
    type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, num_classes=119, mode='original'
)
small = dict(backbone=dict(_delete_=True, type='mmkendall.MLP'), head=dict(in_channels=64))

zscore = dict(type='mmkendall.LogitStandardization')
normal = dict(type='mmkendall.OrderScores', spread=4.0)
kd = dict(type='mmkendall.KDLoss', loss_weight=0.9)
rank = dict(type='mmkendall.KendallRankLoss', steepness=10.0, loss_weight=5.0)
listmle = dict(type='mmkendall.ListMLELoss', topk=20)
temperatures = {'kd.temperature_S': [1.0, 4.0, 16.0, 64.0]}
# Whose scores are logits, so that KL and the ranking loss may stand side by side.
logits = ['label-smoothed', 'ensemble', 'MLP student']

study = dict(
    about='Does an order-based loss help with other networks for a teacher or a student?',
    teachers={
        'ConvNet': convnet,
        'ConvNet, another': dict(**convnet, seed=1),
        'label-smoothed': dict(**convnet, change=dict(model=dict(head=dict(loss=smoothed)))),
        'ensemble': dict(
            of=['ConvNet', 'ConvNet, another'], by=dict(type='ensemble', scales=[1.0, 4.0])
        ),
        'cosines': dict(of='ConvNet', by=dict(type='cosine')),
        'distances': dict(of='ConvNet', by=dict(type='prototypes')),
        'margins of an SVM': dict(of='ConvNet', by=dict(type='svc')),
    },
    cases={
        'label-smoothed': dict(teacher='label-smoothed'),
        'ensemble': dict(teacher='ensemble'),
        'cosines': dict(teacher='cosines'),
        'distances': dict(teacher='distances'),
        'margins of an SVM': dict(teacher='margins of an SVM'),
        'MLP student': dict(teacher='ConvNet', change=dict(model=dict(architecture=small))),
    },
    arms={
        'KD': dict(config=PAIR, change=cached, terms=dict(own=1.0, kd=kd), grid=temperatures),
        'KD, teacher z-scored': dict(
            config=PAIR,
            change=cached,
            terms=dict(own=1.0, kd=dict(**kd, temperature_T=1.0, connector_T=zscore)),
            grid={'kd.temperature_S': [2.0, 4.0, 8.0]},
        ),
        'KD on normal scores': dict(
            config=PAIR,
            change=cached,
            terms=dict(own=1.0, kd=dict(**kd, connector_T=normal)),
            grid={'kd.temperature_S': [2.0, 4.0, 8.0]},
        ),
        'KD + ranking': dict(
            config=PAIR,
            change=cached,
            terms=dict(own=1.0, kd=kd, rank=rank),
            grid=temperatures,
            beside='KD',
            cases=logits,
        ),
        'CE + ranking': dict(
            config=PAIR,
            change=cached,
            terms=dict(own=1.0, rank=dict(**rank, surrogate='hard_teacher')),
            grid={'rank.steepness': [3.0, 10.0]},
        ),
        'CE + ListMLE': dict(
            config=PAIR,
            change=cached,
            terms=dict(own=1.0, listmle=listmle),
            grid={'listmle.loss_weight': [0.3, 1.0]},
        ),
    },
    seeds=[1, 2, 3],
    baseline='KD',
    controls=False,
)

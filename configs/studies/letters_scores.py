# Which loss takes which teacher: logits, logits of another scale or bent, an order alone, the
# first five classes alone, and the votes of a forest. Letters; one network, whose scores and
# features all teachers are made of.
_base_ = ['../_base_/studies/eight_epochs.py']
PAIR = '../letters/kd_logits_convnet_lenet_1xb128_letters.py'

scores_of = {
    'logits': None,
    'a scale for each image': dict(type='scale_per_sample', sigma=1.0),
    'cube': dict(type='power', exponent=3.0),
    'five wild classes': dict(type='outliers', count=5, size=5.0),
    'order alone': dict(type='order'),
    'first five alone': [dict(type='top', k=5), dict(type='order')],
    'votes of a forest': dict(type='forest'),
}
teachers = {'ConvNet': dict(config='../letters/convnet_1xb128_letters.py')}
cases = {}
for name, by in scores_of.items():
    if by is None:
        cases[name] = dict(teacher='ConvNet')
    else:
        teachers[name] = dict(of='ConvNet', by=by)
        cases[name] = dict(teacher=name)

zscore = dict(type='mmkendall.LogitStandardization')
normal = dict(type='mmkendall.OrderScores', spread=4.0)
kd = dict(type='mmkendall.KDLoss', loss_weight=0.9)
rank = dict(
    type='mmkendall.KendallRankLoss', surrogate='hard_teacher', steepness=10.0, loss_weight=5.0
)
temperatures = [1.0, 4.0, 16.0]
cached = dict(model=dict(teacher_logits='written by the study'))

study = dict(
    about='Which loss takes which teacher? Each is tuned for each teacher on the validation set.',
    teachers=teachers,
    cases=cases,
    arms={
        'CE': dict(config='../letters/lenet_1xb128_letters.py', cases=['logits']),
        'KD': dict(
            config=PAIR,
            change=cached,
            terms=dict(own=1.0, kd=kd),
            grid={'kd.temperature_S': temperatures},
        ),
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
        'CE + ranking': dict(
            config=PAIR,
            change=cached,
            terms=dict(own=1.0, rank=rank),
            grid={'rank.steepness': [3.0, 10.0]},
        ),
    },
    seeds=[1, 2, 3],
    baseline='KD',
    controls=False,
)

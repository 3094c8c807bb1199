# Which steepness and weight: beside KD and without it, on raw and on z-scored logits, on letters.
# The weight is tuned for each steepness on the validation set.
PAIR = '../letters/kd_logits_convnet_lenet_1xb128_letters.py'
cached = dict(model=dict(teacher_logits='written by the study'))

kd = dict(type='mmkendall.KDLoss', temperature_S=8.0, loss_weight=0.9)
arms = {
    'KD': dict(config=PAIR, change=cached, terms=dict(own=1.0, kd=kd)),
}
for steepness in (1.0, 3.0, 10.0, 30.0, 100.0):
    rank = dict(type='mmkendall.KendallRankLoss', steepness=steepness)
    arms[f'KD + ranking, k = {steepness:g}'] = dict(
        config=PAIR,
        change=cached,
        terms=dict(own=1.0, kd=kd, rank=rank),
        grid={'rank.loss_weight': [1.0, 5.0]},
    )
    arms[f'CE + ranking, k = {steepness:g}'] = dict(
        config=PAIR,
        change=cached,
        terms=dict(own=1.0, rank=rank),
        grid={'rank.loss_weight': [5.0, 20.0]},
    )
for steepness in (1.0, 10.0):
    arms[f'CE + ranking of z-scores, k = {steepness:g}'] = dict(
        config=PAIR,
        change=cached,
        terms=dict(
            own=1.0,
            rank=dict(type='mmkendall.KendallRankLoss', steepness=steepness, standardize=True),
        ),
        grid={'rank.loss_weight': [5.0, 20.0]},
    )
for surrogate in ('hard_teacher', 'diffkendall'):
    arms[f'CE + ranking, {surrogate}, k = 10'] = dict(
        config=PAIR,
        change=cached,
        terms=dict(
            own=1.0,
            rank=dict(type='mmkendall.KendallRankLoss', steepness=10.0, surrogate=surrogate),
        ),
        grid={'rank.loss_weight': [5.0, 20.0]},
    )

study = dict(
    about='Which steepness, which weight, which surrogate?',
    teachers={'ConvNet': dict(config='../letters/convnet_1xb128_letters.py')},
    change=dict(
        default_hooks=dict(checkpoint=dict(interval=1000, save_last=False)),
    ),
    arms=arms,
    seeds=[1, 2, 3],
    baseline='KD',
    controls=False,
)

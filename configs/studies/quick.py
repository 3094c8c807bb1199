# A first look at letters: does a ranking loss add to KD, and can it stand in its place? Few seeds
# and a small grid, so that two cores need a few minutes. `make letters` draws the data.
LETTERS = '../letters/'
PAIR = f'{LETTERS}kd_logits_convnet_lenet_1xb128_letters.py'

kd = dict(type='mmkendall.KDLoss', temperature_S=8.0, loss_weight=0.9)
rank = dict(type='mmkendall.KendallRankLoss', steepness=10.0, loss_weight=5.0)

study = dict(
    about='Does a ranking loss add to KD on 119 letters, and can it stand in the place of KL?',
    teachers={'ConvNet': dict(config=f'{LETTERS}convnet_1xb128_letters.py')},
    # What a training leaves behind is its result.
    change=dict(
        default_hooks=dict(checkpoint=dict(interval=1000, save_last=False)),
        train_cfg=dict(val_interval=4),
    ),
    arms={
        'student alone': dict(config=f'{LETTERS}lenet_1xb128_letters.py'),
        'KD': dict(config=PAIR, terms=dict(own=1.0, kd=kd), grid={'kd.temperature_S': [4.0, 8.0]}),
        'KD + ranking': dict(
            config=PAIR,
            terms=dict(own=1.0, kd=kd, rank=rank),
            grid={'rank.loss_weight': [1.0, 5.0]},
            beside='KD',
        ),
        'CE + ranking': dict(config=PAIR, terms=dict(own=1.0, rank=rank)),
    },
    seeds=[1, 2, 3],
    baseline='KD',
)
for name in ('KD', 'KD + ranking', 'CE + ranking'):
    study['arms'][name]['change'] = dict(model=dict(teacher_logits='written by the study'))

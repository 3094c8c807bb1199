# When does the ranking loss help: in the first half of a training, in the second, in all of it? Once
# beside KD, once beside the labels alone. `make letters` draws the data.
LETTERS = '../letters/'
PAIR = f'{LETTERS}kd_logits_convnet_lenet_1xb128_letters.py'
EPOCHS = 16

kd = dict(type='mmkendall.KDLoss', temperature_S=8.0, loss_weight=0.9)
rank = dict(type='mmkendall.KendallRankLoss', steepness=10.0, loss_weight=5.0)
base = {'KD': dict(own=0.1, kd=kd), 'CE': dict(own=1.0)}
when = {
    'first half': dict(type='mmkendall.RankWeightSchedule', schedule='first', epochs=EPOCHS // 2),
    'second half': dict(type='mmkendall.RankWeightSchedule', schedule='last', epochs=EPOCHS // 2),
    'always': dict(type='mmkendall.RankWeightSchedule', schedule='constant'),
}

study = dict(
    about='Does the ranking loss help early in a training, late, or all the time? On 119 letters.',
    teachers={'ConvNet': dict(config=f'{LETTERS}convnet_1xb128_letters.py')},
    # What a training leaves behind is its result.
    change=dict(
        default_hooks=dict(checkpoint=dict(interval=1000, save_last=False)),
        train_cfg=dict(max_epochs=EPOCHS, val_interval=1),
    ),
    arms={
        'CE, never': dict(config=f'{LETTERS}lenet_1xb128_letters.py'),
        'KD, never': dict(
            config=PAIR,
            terms=base['KD'],
            change=dict(model=dict(teacher_logits='written by the study')),
        ),
        **{
            f'{name}, {time}': dict(
                config=PAIR,
                terms=dict(base[name], rank=rank),
                change=dict(
                    custom_hooks=[hook], model=dict(teacher_logits='written by the study')
                ),
            )
            for name in base
            for time, hook in when.items()
        },
    },
    seeds=[1, 2],
    compare=[(f'{name}, {time}', f'{name}, never') for name in base for time in when],
    controls=False,
)

# When does the ranking loss help: in the first half of a training, in the second, in all of it?
# Once beside KD, once beside the labels alone.
LETTERS = '../letters/'
PAIR = f'{LETTERS}kd_logits_convnet_lenet_1xb128_letters.py'
EPOCHS = 8

kd = dict(type='mmkendall.KDLoss', temperature_S=4.0, loss_weight=0.9)
rank = dict(type='mmkendall.KendallRankLoss', steepness=10.0, loss_weight=5.0)
# The logits of this teacher are far apart, so that KD's gradients are large: with the rate that
# suits the labels, the student's units die.
base = {'KD': (dict(own=0.1, kd=kd), 0.03), 'CE': (dict(own=1.0), 0.1)}
when = {
    'first half': dict(schedule='first', epochs=EPOCHS // 2),
    'second half': dict(schedule='last', epochs=EPOCHS // 2),
    'always': dict(schedule='constant'),
}

study = dict(
    about='Does the ranking loss help early in a training, late, or all the time? On 119 letters.',
    teachers={'ConvNet': dict(config=f'{LETTERS}convnet_1xb128_letters.py')},
    change=dict(
        # What a training leaves behind is its result.
        default_hooks=dict(checkpoint=dict(interval=1000, save_last=False)),
        train_cfg=dict(max_epochs=EPOCHS, val_interval=1),
        param_scheduler=dict(T_max=EPOCHS),
    ),
    arms={
        'CE, never': dict(
            config=f'{LETTERS}lenet_1xb128_letters.py',
            change=dict(optim_wrapper=dict(optimizer=dict(lr=base['CE'][1]), clip_grad=None)),
        ),
        'KD, never': dict(config=PAIR, terms=base['KD'][0]),
        **{
            f'{name}, {time}': dict(
                config=PAIR,
                terms=dict(terms, rank=rank),
                change=dict(custom_hooks=[dict(type='mmkendall.RankWeightSchedule', **schedule)]),
            )
            for name, (terms, _) in base.items()
            for time, schedule in when.items()
        },
    },
    seeds=[1, 2, 3, 4],
    compare=[
        *((f'{name}, {time}', f'{name}, never') for name in base for time in when),
        *((f'{name}, first half', f'{name}, second half') for name in base),
    ],
    controls=False,
)
for name, arm in study['arms'].items():
    if name != 'CE, never':
        change = arm.setdefault('change', {})
        change['model'] = dict(teacher_logits='written by the study')
        change['optim_wrapper'] = dict(optimizer=dict(lr=base[name[:2]][1]), clip_grad=None)

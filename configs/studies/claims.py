# Two things that are said of the ranking loss (docs/sources.md), tried on the letters beside KD:
# that its lowest classes matter as much as its highest, and that a steepness of 100 is the best.
LETTERS = '../letters/'
PAIR = f'{LETTERS}kd_logits_convnet_lenet_1xb128_letters.py'
EPOCHS = 8

kd = dict(type='mmkendall.KDLoss', temperature_S=4.0, loss_weight=0.9)
ranks = {
    'lowest tenth, k = 10': dict(steepness=10.0, mink=0.1),
    'highest tenth, k = 10': dict(steepness=10.0, topk=0.1),
    'all, k = 1': dict(steepness=1.0),
    'all, k = 100': dict(steepness=100.0),
}
terms = {
    'KD': dict(own=0.1, kd=kd),
    **{
        f'KD + ranking, {name}': dict(
            own=0.1,
            kd=kd,
            rank=dict(type='mmkendall.KendallRankLoss', loss_weight=5.0, **options),
        )
        for name, options in ranks.items()
    },
}

study = dict(
    about='Which classes and which steepness should the ranking loss beside KD have? On letters.',
    teachers={'ConvNet': dict(config=f'{LETTERS}convnet_1xb128_letters.py')},
    change=dict(
        # What a training leaves behind is its result.
        default_hooks=dict(checkpoint=dict(interval=1000, save_last=False)),
        train_cfg=dict(max_epochs=EPOCHS, val_interval=1),
        param_scheduler=dict(T_max=EPOCHS),
        model=dict(teacher_logits='written by the study'),
        # As in when.py.
        optim_wrapper=dict(optimizer=dict(lr=0.03), clip_grad=None),
    ),
    arms={name: dict(config=PAIR, terms=each) for name, each in terms.items()},
    seeds=[1, 2, 3, 4],
    baseline='KD',
    controls=False,
)

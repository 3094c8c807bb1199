# Four times as many classes as the letters have: 500 kanji. Drawn by
# `python tools/dataset_converters/letters.py data/kanji --classes kanji`.
PAIR = '../letters/kd_logits_convnet_lenet_1xb128_kanji.py'
cached = dict(model=dict(teacher_logits='written by the study'))

kd = dict(type='mmkendall.KDLoss', loss_weight=0.9)
rank = dict(type='mmkendall.KendallRankLoss', steepness=10.0)
temperatures = {'kd.temperature_S': [2.0, 4.0, 8.0, 16.0]}

study = dict(
    about='Does an order-based loss help with 500 classes?',
    teachers={'ConvNet': dict(config='../letters/convnet_1xb128_kanji.py')},
    # Half as many epochs as the config has: twice as many trainings in the same time.
    change=dict(
        train_cfg=dict(max_epochs=8, val_interval=8),
        param_scheduler=dict(T_max=8),
        default_hooks=dict(checkpoint=dict(interval=1000, save_last=False)),
    ),
    arms={
        'CE': dict(config='../letters/lenet_1xb128_kanji.py'),
        'KD': dict(config=PAIR, change=cached, terms=dict(own=1.0, kd=kd), grid=temperatures),
        'KD + ranking': dict(
            config=PAIR,
            change=cached,
            terms=dict(own=1.0, kd=kd, rank=dict(**rank, loss_weight=5.0)),
            grid=temperatures,
            beside='KD',
        ),
        'CE + ranking': dict(
            config=PAIR,
            change=cached,
            terms=dict(own=1.0, rank=rank),
            grid={'rank.loss_weight': [5.0, 20.0]},
        ),
        'CE + ListMLE': dict(
            config=PAIR,
            change=cached,
            terms=dict(own=1.0, listmle=dict(type='mmkendall.ListMLELoss', topk=20)),
            grid={'listmle.loss_weight': [0.3, 1.0]},
        ),
        'KD on normal scores': dict(
            config=PAIR,
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

# Does a ranking loss add to a tuned method when the teacher is healthy? Every method without and
# with it, on two splits of the fonts with a teacher each; SPLITS crosses more of them. The
# second split is drawn by
# `python tools/dataset_converters/letters.py data/letters_split1 --split-seed 1`.
_base_ = ['../_base_/studies/eight_epochs.py']
PAIR = '../letters/kd_logits_convnet_lenet_1xb128_letters.py'
cached = dict(model=dict(teacher_logits='written by the study'))


def of_split(root):
    """The change that takes the data of a split."""
    return {
        name: dict(dataset=dict(data_root=root))
        for name in ('train_dataloader', 'val_dataloader', 'test_dataloader')
    }


# The data of each split, and the seeds of the teachers that are trained on it.
SPLITS = {'data/letters': [0], 'data/letters_split1': [1]}
teachers, cases = {}, {}
for split, (root, teacher_seeds) in enumerate(SPLITS.items()):
    for seed in teacher_seeds:
        name = f'split {split}, teacher {seed}'
        teachers[name] = dict(
            config='../letters/convnet_1xb128_letters.py', seed=seed, change=of_split(root)
        )
        cases[name] = dict(teacher=name, change=of_split(root), pool='clean teachers')

zscore = dict(type='mmkendall.LogitStandardization')
methods = {
    'KD': dict(own=1.0, kd=dict(type='mmkendall.KDLoss', temperature_S=8.0, loss_weight=0.9)),
    'DKD': dict(
        own=1.0, dkd=dict(type='mmkendall.DKDLoss', temperature=4.0, beta=8.0, warmup_epochs=2)
    ),
    'LSKD': dict(
        own=0.1,
        kd=dict(
            type='mmkendall.KDLoss', temperature_S=2.0, loss_weight=9.0,
            connector_S=zscore, connector_T=zscore,
        ),
    ),
    'DIST': dict(own=1.0, dist=dict(type='mmrazor.DISTLoss', tau=4.0, loss_weight=2.0)),
    'CTKD': dict(own=0.1, ctkd=dict(type='mmkendall.CTKDLoss', ramp_epochs=1, loss_weight=0.9)),
    'WTTM': dict(own=1.0, wttm=dict(type='mmkendall.WTTMLoss', temperature=5.0, loss_weight=4.0)),
}  # fmt: skip
# What each method has of its own. The learning rate is the config's; the controls change it.
grids = {
    'KD': {'kd.temperature_S': [4.0, 8.0, 16.0]},
    'DKD': {'dkd.beta': [2.0, 8.0]},
    'LSKD': {'kd.loss_weight': [2.0, 9.0]},
    'DIST': {'dist.loss_weight': [2.0, 8.0]},
    'CTKD': {'ctkd.loss_weight': [0.9, 2.0]},
    'WTTM': {'wttm.loss_weight': [1.0, 4.0]},
}
rank = dict(type='mmkendall.KendallRankLoss', steepness=10.0)

arms = {'CE': dict(config='../letters/lenet_1xb128_letters.py')}
for name, terms in methods.items():
    arms[name] = dict(config=PAIR, change=cached, terms=terms, grid=grids[name])
    arms[f'{name} + ranking'] = dict(
        config=PAIR,
        change=cached,
        terms=dict(**terms, rank=rank),
        grid={**grids[name], 'rank.loss_weight': [1.0, 5.0]},
        beside=name,
    )
arms['PLD'] = dict(
    config=PAIR,
    change=cached,
    terms=dict(own=0.0, pld=dict(type='mmkendall.PLDLoss')),
    grid={'pld.temperature': [1.0, 4.0]},
)
arms['MRKD'] = dict(
    config=PAIR,
    change=cached,
    terms=dict(
        own=1.0,
        kendall=dict(
            type='mmkendall.KendallRankLoss', surrogate='diffkendall', standardize=True,
            steepness=0.25, loss_weight=32.0,
        ),
        kendall_batch=dict(
            type='mmkendall.KendallRankLoss', surrogate='diffkendall', standardize=True,
            across='batch', steepness=0.25, loss_weight=32.0,
        ),
        pearson=dict(type='mmkendall.PearsonLoss', loss_weight=32.0),
    ),
    grid={'lr': [0.01, 0.03, 0.1]},
)  # fmt: skip
arms['CE + ranking'] = dict(
    config=PAIR,
    change=cached,
    terms=dict(own=1.0, rank=rank),
    grid={'rank.loss_weight': [5.0, 20.0]},
)

study = dict(
    about='Does a ranking loss add to a tuned method when the teacher is healthy?',
    teachers=teachers,
    cases=cases,
    names=dict(lr='optim_wrapper.optimizer.lr'),
    arms=arms,
    seeds=[1, 2, 3],
    baseline='KD',
)

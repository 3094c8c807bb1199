# One pair on letters, one seed: `make letters`.
PAIR = 'convnet_lenet_1xb128_letters.py'

study = dict(
    about='Does the way from fonts to a distilled student work?',
    teachers={'ConvNet': dict(config='../letters/convnet_1xb128_letters.py')},
    arms={
        'student alone': dict(config='../letters/lenet_1xb128_letters.py'),
        'KD': dict(config=f'../letters/kd_logits_{PAIR}'),
        'KD + ranking': dict(config=f'../letters/kd-rank_logits_{PAIR}'),
    },
    seeds=[0],
    baseline='KD',
    controls=False,
)
for name in ('KD', 'KD + ranking'):
    study['arms'][name]['change'] = dict(model=dict(teacher_logits='written by the study'))

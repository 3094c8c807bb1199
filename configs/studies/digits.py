# The digits pair without and with the ranking loss: `make demo`.
PAIR = 'resnet18-w16_resnet18-w4_1xb64_digits.py'

study = dict(
    about='Does the ranking loss add anything to KD on ten easy classes?',
    teachers={'ResNet-18, 16 channels': dict(config='../digits/resnet18-w16_1xb64_digits.py')},
    arms={
        'student alone': dict(config='../digits/resnet18-w4_1xb64_digits.py'),
        'KD': dict(config=f'../digits/kd_logits_{PAIR}'),
        'KD + ranking': dict(config=f'../digits/kd-rank_logits_{PAIR}'),
    },
    seeds=[0, 1, 2],
    baseline='KD',
    # Two minutes are enough for a demo.
    controls=False,
)

# Every method on the digits, without and with the ranking loss, one seed: `make demo-methods`.
# It shows that all of them train; one seed orders no methods.
PAIR = 'resnet18-w16_resnet18-w4_1xb64_digits.py'
METHODS = ('kd', 'ctkd', 'dkd', 'mlkd', 'lskd', 'dist', 'wttm')
# Losses on an order or on differences themselves, beside which no other is put.
ORDER_METHODS = {
    'mrkd': 'MRKD',
    'pld': 'PLD',
    'listmle': 'ListMLE',
    'bild': 'BiLD',
    'kd-order': 'KD on OrderScores',
}

arms = {'student alone': dict(config='../digits/resnet18-w4_1xb64_digits.py')}
for method in METHODS:
    arms[method.upper()] = dict(config=f'../digits/{method}_logits_{PAIR}')
    arms[f'{method.upper()} + ranking'] = dict(config=f'../digits/{method}-rank_logits_{PAIR}')
for method, name in ORDER_METHODS.items():
    arms[name] = dict(config=f'../digits/{method}_logits_{PAIR}')

study = dict(
    about='Does every method train, without and with the ranking loss?',
    teachers={'ResNet-18, 16 channels': dict(config='../digits/resnet18-w16_1xb64_digits.py')},
    arms=arms,
    seeds=[0],
    baseline='KD',
    controls=False,
)

# What the digits' configs of the other methods take from a look at 297 held-out training images:
# learning rates, weights and the steepness beside LSKD and WTTM.
PAIR = 'resnet18-w16_resnet18-w4_1xb64_digits.py'
RATE = 'optim_wrapper.optimizer.lr'
STEEPNESS = 'model.distiller.rank_loss.steepness'
MLKD = 'model.distiller.distill_losses.loss_mlkd'
LISTMLE = 'model.distiller.distill_losses.loss_listmle.loss_weight'
BILD = 'model.distiller.distill_losses.loss_bild.loss_weight'
SPREAD = 'model.distiller.connectors.order.spread'

held_out = dict(
    train_dataloader=dict(dataset=dict(indices=list(range(1000)))),
    val_dataloader=dict(dataset=dict(split='train', indices=list(range(1000, 1297)))),
    test_dataloader=dict(dataset=dict(split='train', indices=list(range(1000, 1297)))),
)
# How mmpretrain's LinearClsHead starts by default; the configs of LSKD start it as torch does.
small_head = dict(_delete_=True, type='Normal', layer='Linear', std=0.01)

arms = {
    "LSKD, mmpretrain's head, lr 0.05": dict(
        config=f'../digits/lskd_logits_{PAIR}',
        change={'model.architecture.head.init_cfg': small_head, RATE: 0.05},
    ),
    "MLKD, recipe's weights, lr 0.01": dict(
        config=f'../digits/mlkd_logits_{PAIR}',
        change={RATE: 0.01, f'{MLKD}.batch_weight': 1.0, f'{MLKD}.class_weight': 1.0},
    ),
    'WTTM': dict(config=f'../digits/wttm_logits_{PAIR}'),
}
for method, rates in {
    'lskd': (0.05, 0.1),
    'dist': (0.01, 0.005),
    'mlkd': (0.05, 0.02),
    'mrkd': (0.05, 0.01, 0.005),
    'pld': (0.05, 0.1),
}.items():
    for rate in rates:
        arms[f'{method.upper()}, lr {rate:g}'] = dict(
            config=f'../digits/{method}_logits_{PAIR}', change={RATE: rate}
        )
for method in ('lskd', 'wttm'):
    for steepness in (1.0, 10.0, 100.0):
        arms[f'{method.upper()} + ranking, k = {steepness:g}'] = dict(
            config=f'../digits/{method}-rank_logits_{PAIR}', change={STEEPNESS: steepness}
        )
for weight in (0.1, 0.3, 1.0, 3.0, 10.0):
    arms[f'ListMLE, weight {weight:g}'] = dict(
        config=f'../digits/listmle_logits_{PAIR}', change={LISTMLE: weight}
    )
for weight in (1.0, 3.0, 10.0, 30.0):
    arms[f'BiLD, weight {weight:g}'] = dict(
        config=f'../digits/bild_logits_{PAIR}', change={BILD: weight}
    )
for spread in (2.0, 4.0, 8.0, 16.0, 32.0):
    arms[f'KD on OrderScores, spread {spread:g}'] = dict(
        config=f'../digits/kd-order_logits_{PAIR}', change={SPREAD: spread}
    )

study = dict(
    about='Which settings for each method, on held-out training images of the digits?',
    teachers={
        'ResNet-18, 16 channels': dict(
            config='../digits/resnet18-w16_1xb64_digits.py', change=held_out
        )
    },
    change=held_out,
    arms=arms,
    seeds=[10, 11, 12],
    controls=False,
)

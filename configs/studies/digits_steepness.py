# Which steepness on the digits, on 297 training images that are held out of the training, with
# seeds that the demo does not use.
PAIR = 'resnet18-w16_resnet18-w4_1xb64_digits.py'

held_out = dict(
    train_dataloader=dict(dataset=dict(indices=list(range(1000)))),
    val_dataloader=dict(dataset=dict(split='train', indices=list(range(1000, 1297)))),
    test_dataloader=dict(dataset=dict(split='train', indices=list(range(1000, 1297)))),
)
arms = {'KD': dict(config=f'../digits/kd_logits_{PAIR}')}
for steepness in (1.0, 10.0, 100.0):
    arms[f'KD + ranking, k = {steepness:g}'] = dict(
        config=f'../digits/kd-rank_logits_{PAIR}',
        change={'model.distiller.distill_losses.loss_rank.steepness': steepness},
    )

study = dict(
    about='Which steepness, on held-out training images of the digits?',
    teachers={
        'ResNet-18, 16 channels': dict(
            config='../digits/resnet18-w16_1xb64_digits.py', change=held_out
        )
    },
    change=held_out,
    arms=arms,
    seeds=[10, 11, 12, 13, 14, 15],
    baseline='KD',
    controls=False,
)

# When the data is the difficulty: few faces, a long tail, wrong labels, half of the classes left
# out, no labels. Letters; each arm is tuned for each case on the validation set.
_base_ = ['../_base_/studies/eight_epochs.py']
PAIR = '../letters/kd_logits_convnet_lenet_1xb128_letters.py'
cached = dict(model=dict(teacher_logits='written by the study'))


def training_set(**options):
    """The change that gives the training images of all arms some options of mmkendall.Glyphs."""
    return dict(train_dataloader=dict(dataset=options))


normal = dict(type='mmkendall.OrderScores', spread=4.0)
kd = dict(type='mmkendall.KDLoss', loss_weight=0.9)
rank = dict(type='mmkendall.KendallRankLoss', steepness=10.0)
temperatures = {'kd.temperature_S': [4.0, 12.0, 40.0]}

# Without labels there is no loss of the student's own.
unlabelled = dict(
    train_dataloader=dict(dataset=dict(labels=False)), model=dict(calculate_student_loss=False)
)
with_labels = ['all images', 'eight faces', 'long tail', '40 % wrong labels']
without = ['no labels', '60 classes left out, no labels']

study = dict(
    about='When the data is the difficulty, does an order-based loss help?',
    teachers={'ConvNet': dict(config='../letters/convnet_1xb128_letters.py')},
    cases={
        'all images': dict(),
        'eight faces': dict(change=training_set(num_faces=8)),
        'long tail': dict(change=training_set(long_tail=50.0)),
        '40 % wrong labels': dict(change=training_set(wrong_labels=0.4)),
        'no labels': dict(change=unlabelled),
        '60 classes left out, no labels': dict(
            change=dict(
                model=unlabelled['model'],
                train_dataloader=dict(dataset=dict(labels=False, leave_out_classes=60)),
            )
        ),
    },
    arms={
        'CE': dict(config='../letters/lenet_1xb128_letters.py', cases=with_labels),
        'KD': dict(
            config=PAIR,
            change=cached,
            terms=dict(own=1.0, kd=kd),
            grid=temperatures,
        ),
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
            cases=with_labels,
        ),
        'ranking alone': dict(
            config=PAIR,
            change=cached,
            terms=dict(rank=dict(**rank, loss_weight=20.0)),
            grid={'rank.steepness': [1.0, 10.0]},
            cases=without,
        ),
        'KD on normal scores': dict(
            config=PAIR,
            change=cached,
            terms=dict(own=1.0, kd=dict(**kd, connector_T=normal)),
            grid=temperatures,
        ),
    },
    seeds=[1, 2, 3],
    baseline='KD',
    controls=False,
)

# Fashion-MNIST, as Debian's package dataset-fashion-mnist installs it, with a border to 32x32:
# 50,000 images to train, 10,000 of the training images to validate, 10,000 to test.
data_preprocessor = dict(
    type='mmkendall.StackedDataPreprocessor',
    num_classes=10,
    # Mean and deviation of the training pixels, 0 to 255.
    mean=[55.8],
    std=[84.6],
)

train_dataloader = dict(
    batch_size=128,
    num_workers=0,
    dataset=dict(
        type='mmkendall.FashionMNIST', data_root='/usr/share/datasets/fashion-mnist', split='train'
    ),
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='mmkendall.stack_batch'),
)
val_dataloader = dict(
    batch_size=500,
    num_workers=0,
    dataset=dict(
        type='mmkendall.FashionMNIST', data_root='/usr/share/datasets/fashion-mnist', split='val'
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='mmkendall.stack_batch'),
)
test_dataloader = dict(
    batch_size=500,
    num_workers=0,
    dataset=dict(
        type='mmkendall.FashionMNIST', data_root='/usr/share/datasets/fashion-mnist', split='test'
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='mmkendall.stack_batch'),
)
val_evaluator = [
    dict(type='mmpretrain.Accuracy', topk=(1, 5)),
    # Off until --cfg-options val_evaluator.1.teacher_results=FILE.pkl names the teacher's results.
    dict(type='mmkendall.KendallTau', teacher_results=None),
]
test_evaluator = val_evaluator

# Scikit-learn's handwritten digits, 8x8 and grey: 1,297 images to train, 500 to test.
data_preprocessor = dict(
    type='mmpretrain.ClsDataPreprocessor',
    num_classes=10,
    # Mean and deviation of the training pixels, 0 to 255.
    mean=[77.8],
    std=[95.8],
    to_rgb=False,
)

train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    dataset=dict(
        type='mmkendall.Digits',
        split='train',
        pipeline=[
            dict(type='mmpretrain.RandomCrop', crop_size=8, padding=1),
            dict(type='mmpretrain.PackInputs'),
        ],
    ),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=250,
    num_workers=0,
    dataset=dict(
        type='mmkendall.Digits', split='test', pipeline=[dict(type='mmpretrain.PackInputs')]
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = [
    dict(type='mmpretrain.Accuracy', topk=(1,)),
    # Off until --cfg-options val_evaluator.1.teacher_results=FILE.pkl names the teacher's results.
    dict(type='mmkendall.KendallTau', teacher_results=None),
]
test_dataloader = val_dataloader
test_evaluator = val_evaluator

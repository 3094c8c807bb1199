# The first 500 kanji of JIS level 1, 32x32 and grey. They are drawn from fonts by
# `python tools/dataset_converters/letters.py data/kanji --classes kanji`.
data_preprocessor = dict(
    type='mmkendall.StackedDataPreprocessor',
    num_classes=500,
    # Mean and deviation of the training pixels, 0 to 255.
    mean=[45.8],
    std=[84.4],
)

train_dataloader = dict(
    batch_size=128,
    num_workers=0,
    dataset=dict(type='mmkendall.Glyphs', data_root='data/kanji', split='train'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='mmkendall.stack_batch'),
)
val_dataloader = dict(
    batch_size=500,
    num_workers=0,
    dataset=dict(type='mmkendall.Glyphs', data_root='data/kanji', split='val'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='mmkendall.stack_batch'),
)
test_dataloader = dict(
    batch_size=500,
    num_workers=0,
    dataset=dict(type='mmkendall.Glyphs', data_root='data/kanji', split='test'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='mmkendall.stack_batch'),
)
val_evaluator = [
    dict(type='mmpretrain.Accuracy', topk=(1, 5)),
    # Off until --cfg-options val_evaluator.1.teacher_results=FILE.pkl names the teacher's results.
    dict(type='mmkendall.KendallTau', teacher_results=None),
]
test_evaluator = val_evaluator

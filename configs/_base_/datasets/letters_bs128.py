# 119 lower-case Latin letters, most with accents, 32x32 and grey. They are drawn from fonts by
# `python tools/dataset_converters/letters.py data/letters`. What a study does to the images goes
# into train_dataloader.dataset: num_views, num_faces, leave_out_classes, long_tail, wrong_labels,
# labels, seed.
data_preprocessor = dict(
    type='mmkendall.StackedDataPreprocessor',
    num_classes=119,
    # Mean and deviation of the training pixels, 0 to 255.
    mean=[14.9],
    std=[52.8],
)

train_dataloader = dict(
    batch_size=128,
    num_workers=0,
    dataset=dict(type='mmkendall.Glyphs', data_root='data/letters', split='train'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='mmkendall.stack_batch'),
)
val_dataloader = dict(
    batch_size=500,
    num_workers=0,
    dataset=dict(type='mmkendall.Glyphs', data_root='data/letters', split='val'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='mmkendall.stack_batch'),
)
test_dataloader = dict(
    batch_size=500,
    num_workers=0,
    dataset=dict(type='mmkendall.Glyphs', data_root='data/letters', split='test'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='mmkendall.stack_batch'),
)
val_evaluator = [
    dict(type='mmpretrain.Accuracy', topk=(1, 5)),
    # Off until --cfg-options val_evaluator.1.teacher_results=FILE.pkl names the teacher's results.
    dict(type='mmkendall.KendallTau', teacher_results=None),
]
test_evaluator = val_evaluator

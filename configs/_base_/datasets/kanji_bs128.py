# The first 500 kanji of JIS level 1, 32x32 and grey. They are drawn from fonts by
# `python tools/dataset_converters/letters.py data/kanji --classes kanji`.
_base_ = ['./letters_bs128.py']

# Mean and deviation of the training pixels, 0 to 255.
data_preprocessor = dict(num_classes=500, mean=[45.8], std=[84.4])
train_dataloader = dict(dataset=dict(data_root='data/kanji'))
val_dataloader = dict(dataset=dict(data_root='data/kanji'))
test_dataloader = dict(dataset=dict(data_root='data/kanji'))

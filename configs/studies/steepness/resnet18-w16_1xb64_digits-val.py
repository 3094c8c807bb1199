# The digits pair with 1,000 training images to train on and the other 297 to choose on: the test
# images stay unseen.
_base_ = ['../../digits/resnet18-w16_1xb64_digits.py']

train_dataloader = dict(dataset=dict(indices=list(range(1000))))
val_dataloader = dict(dataset=dict(split='train', indices=list(range(1000, 1297))))
test_dataloader = val_dataloader

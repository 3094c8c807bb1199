_base_ = ['../../digits/mrkd_logits_resnet18-w16_resnet18-w4_1xb64_digits.py']

train_dataloader = dict(dataset=dict(indices=list(range(1000))))
val_dataloader = dict(dataset=dict(split='train', indices=list(range(1000, 1297))))
test_dataloader = val_dataloader

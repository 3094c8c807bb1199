# CIFAR-100 with two views for MLKD, in batches of 128, as the vision transformers are trained.
_base_ = ['./cifar100_two_views_bs64.py']

train_dataloader = dict(batch_size=128)

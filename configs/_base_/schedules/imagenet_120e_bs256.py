# CTKD's 120 epochs in batches of 256.
_base_ = ['./imagenet_100e_bs512.py']

optim_wrapper = dict(optimizer=dict(lr=0.1))
train_cfg = dict(max_epochs=120)
auto_scale_lr = dict(base_batch_size=256)

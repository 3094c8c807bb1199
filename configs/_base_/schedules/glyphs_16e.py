# 16 epochs, half a cosine, for batches of 128. Only the last epoch is validated, on other images
# than those of the test, and saved.
_base_ = ['../default_runtime.py']

optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-5, nesterov=True),
    # KD against a teacher of wide logits diverged in its first epoch without it.
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = dict(
    type='CosineAnnealingLR', T_max=16, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=16, val_interval=16)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(checkpoint=dict(interval=16))
auto_scale_lr = dict(base_batch_size=128)

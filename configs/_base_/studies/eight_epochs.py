# Half as many epochs as the configs of letters have: twice as many trainings in the same time.
# What a training leaves behind is its result.
study = dict(
    change=dict(
        train_cfg=dict(max_epochs=8, val_interval=8),
        param_scheduler=dict(T_max=8),
        default_hooks=dict(checkpoint=dict(interval=1000, save_last=False)),
    ),
)

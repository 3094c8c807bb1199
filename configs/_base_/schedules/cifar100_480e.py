# MLKD's 480 epochs. The learning rate falls at 150, 180 and 210 and then stays, as in the authors'
# configs, which lengthen the training and not the steps.
_base_ = ['./cifar100_240e.py']

optim_wrapper = dict(optimizer=dict(lr=0.025))
train_cfg = dict(max_epochs=480)

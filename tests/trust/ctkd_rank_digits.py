# All that a run carries from one iteration to the next, in a training of seconds: random images,
# dropout, momentum, a schedule, the weight of the ranking loss, CTKD's temperature, averages.
_base_ = ['mmkendall::digits/ctkd-rank_logits_resnet18-w16_resnet18-w4_1xb64_digits.py']

small = dict(type='mmpretrain.LeNet5', num_classes=10)
backbone = dict(
    type='mmpretrain.ResNet_CIFAR', depth=18, in_channels=1, stem_channels=4, base_channels=4
)
head = dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=32)
model = dict(
    architecture=dict(neck=dict(type='mmpretrain.GlobalAveragePooling')),
    teacher=dict(backbone=backbone, head=head),
    teacher_ckpt=None,
)

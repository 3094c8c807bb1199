_base_ = [
    '../../_base_/pairs/retinanet-r101_retinanet-r50_coco.py',
    '../../_base_/methods/kd_retinanet.py',
    'mmdet::_base_/datasets/coco_detection.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    'mmdet::_base_/default_runtime.py',
]

model = dict(
    architecture=_base_.student,
    teacher=_base_.teacher,
    teacher_ckpt=_base_.teacher_ckpt,
)
# RetinaNet's learning rate in mmdet.
optim_wrapper = dict(optimizer=dict(lr=0.01))

_base_ = [
    '../../_base_/pairs/faster-rcnn-r50_faster-rcnn-mobilenet-v2_coco.py',
    '../../_base_/methods/kd_roi.py',
    '../../_base_/datasets/coco_ms_bs2.py',
    '../../_base_/schedules/coco_180k_bs8.py',
]

model = dict(
    architecture=_base_.student,
    teacher=_base_.teacher,
    teacher_ckpt=_base_.teacher_ckpt,
)

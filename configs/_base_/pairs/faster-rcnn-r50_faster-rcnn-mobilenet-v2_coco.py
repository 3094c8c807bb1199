_base_ = ['mmdet::_base_/models/faster-rcnn_r50_fpn.py']

teacher = dict(cfg_path='mmdet::faster_rcnn/faster-rcnn_r50_fpn_ms-3x_coco.py', pretrained=False)
teacher_ckpt = 'https://download.openmmlab.com/mmdetection/v2.0/faster_rcnn/faster_rcnn_r50_fpn_mstrain_3x_coco/faster_rcnn_r50_fpn_mstrain_3x_coco_20210524_110822-e10bd31c.pth'
student = _base_.pop('model')
# The last stage at each stride, as in mdistiller.
student.backbone = dict(
    type='mmdet.MobileNetV2',
    out_indices=(1, 2, 4, 6),
    norm_eval=True,
    init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://mmdet/mobilenet_v2'),
)
student.neck.in_channels = [24, 32, 96, 320]
# mmdet builds the last convolution of the classifier, too, which no stage reads.
find_unused_parameters = True

_base_ = ['mmdet::_base_/models/faster-rcnn_r50_fpn.py']

teacher = dict(cfg_path='mmdet::faster_rcnn/faster-rcnn_r101_fpn_ms-3x_coco.py', pretrained=False)
teacher_ckpt = 'https://download.openmmlab.com/mmdetection/v2.0/faster_rcnn/faster_rcnn_r101_fpn_mstrain_3x_coco/faster_rcnn_r101_fpn_mstrain_3x_coco_20210524_110822-4d4d2ca8.pth'
student = _base_.pop('model')

from __future__ import annotations

from mmengine.model import BaseModel
from torch import Tensor, nn

from mmkendall.models.algorithms.logit_distill import LogitDistill
from mmkendall.models.algorithms.records import build_recorders, has_labels
from mmkendall.registry import MODELS


@MODELS.register_module()
class RoILogitDistill(LogitDistill):
    """``LogitDistill`` for two-stage detectors: the teacher classifies the student's boxes.

    Each detector draws boxes of its own, so the class logits of two detectors are not about the
    same things. Here the student runs first; the boxes that its sampler drew for its own loss, out
    of its proposals and the ground truth, go through the teacher's RoI head, on the teacher's
    features. Row i of both logits is then about the same box. Neither the teacher's RPN nor its
    loss runs.

    Source: the boxes are those of DKD's detection code (Zhao et al., "Decoupled Knowledge
    Distillation", CVPR 2022, mdistiller); how the ranking loss's authors chose theirs is not known
    to us.

    Of the C + 1 logits of a box the last is the background. It is one class among the others, for
    KL as for the ranking loss: how the teacher ranks it says how sure it is of an object.

    Recorders may record anything that the student's loss computes, and of the teacher what its
    backbone, neck and RoI box head compute.

    Args:
        **kwargs: arguments of :class:`LogitDistill`; architecture and teachers are detectors of
            mmdet with a ``StandardRoIHead`` (Faster R-CNN, Mask R-CNN, Double-Head R-CNN, ...).

    Shape:
        - inputs: (N, 3, H, W), padded as mmdet's data preprocessor does.
        - records of ``roi_head.bbox_head.fc_cls``: (R, C + 1), with R boxes in the batch, 512 an
          image in mmdet's configs.

    Raises:
        TypeError: a detector without one RoI head that classifies boxes once.
        ValueError: images without ground truth; ``distill_deliveries``, an ``input_size`` or
            ``teacher_logits``, none of which can be: the student runs first, boxes are in its
            pixels, and they are others at each iteration.

    Example:
        ::

            model = dict(
                type='mmkendall.RoILogitDistill',
                architecture=dict(cfg_path='mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'),
                teacher=dict(cfg_path='mmdet::faster_rcnn/faster-rcnn_r101_fpn_2x_coco.py'),
                teacher_ckpt='teacher.pth',
                distiller=dict(
                    _scope_='mmrazor',
                    type='mmkendall.RankAugmentedDistiller',
                    student_recorders=dict(
                        cls=dict(type='ModuleOutputs', source='roi_head.bbox_head.fc_cls')),
                    teacher_recorders=dict(
                        cls=dict(type='ModuleOutputs', source='roi_head.bbox_head.fc_cls')),
                    distill_losses=dict(loss_kl=dict(type='KLDivergence', tau=1)),
                    loss_forward_mappings=dict(
                        loss_kl=dict(
                            preds_S=dict(from_student=True, recorder='cls'),
                            preds_T=dict(from_student=False, recorder='cls')))))
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        if self._recorders.delivers:
            raise ValueError(
                'distill_deliveries hand over what the teacher computed, and in RoILogitDistill '
                'the student runs first'
            )
        sizes = [teacher_input.size for teacher_input in self.teacher_inputs]
        if any(sizes):
            raise ValueError(
                f"input_size must be None for all teachers, got {sizes}: the student's boxes are "
                "in the student's pixels"
            )

    def loss(self, inputs: Tensor, data_samples: list | None = None) -> dict[str, Tensor]:
        """``student.*`` and ``distill.*`` terms of one batch."""
        if not has_labels(data_samples):
            raise ValueError(
                'RoILogitDistill needs images with ground-truth boxes, also where '
                "calculate_student_loss is False: the student's sampler draws the boxes around "
                'them. These have none'
            )
        with self._roi_recorders, self.distiller.student_recorders:
            student_losses = self.architecture(inputs, data_samples, mode='loss')
        recorder = self._roi_recorders.get_recorder('rois')
        self._rois = recorder.get_record_data(data_idx=1).detach()
        recorder.reset_data_buffer()  # It holds the student's feature maps, too.
        if not self.distillation_stopped:
            self._record_live(inputs, data_samples)
        return self._all_losses(student_losses)

    def _teacher_forward(
        self, teacher: BaseModel, inputs: Tensor, data_samples: list | None, mode: str
    ):
        if mode != 'tensor':
            return super()._teacher_forward(teacher, inputs, data_samples, mode)
        # Not roi_head(...): that runs a mask head as well.
        return teacher.roi_head._bbox_forward(teacher.extract_feat(inputs), self._rois)

    def _prepare_recorders(self, distiller: dict, own: list[dict | None]) -> None:
        check_roi_head('architecture', self.architecture)
        for teacher in self.teachers:
            check_roi_head('teacher', teacher)
        super()._prepare_recorders(distiller, own)
        self._roi_recorders = build_recorders(
            dict(rois=dict(type='ModuleInputs', source='roi_head.bbox_roi_extractor'))
        )
        self._roi_recorders.initialize(self.architecture)

    def _logit_recorder(self) -> str:
        raise ValueError(
            'teacher_logits cannot be cached for a RoILogitDistill: the student draws other boxes '
            'at each iteration'
        )


def check_roi_head(argument: str, model: BaseModel) -> None:
    """Raises TypeError for a detector whose boxes are not classified by one head, once."""
    roi_head = getattr(model, 'roi_head', None)
    # Cascade R-CNN has a list of heads.
    if not hasattr(roi_head, '_bbox_forward') or isinstance(roi_head.bbox_head, nn.ModuleList):
        head = 'no roi_head' if roi_head is None else f'a {type(roi_head).__name__}'
        raise TypeError(
            f'{argument} must be a two-stage detector with a StandardRoIHead, got a '
            f'{type(model).__name__} with {head}. For dense heads take mmkendall.LogitDistill and '
            'mmkendall.DenseLogitLoss'
        )

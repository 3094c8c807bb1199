"""The teacher's logits are of the student's boxes, computed as the teacher alone computes them."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from mmengine.hub import get_config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mmkendall import kendall_rank_loss
from mmkendall.engine.distill_config import check_distill_config, load_config

from ..conftest import REPOSITORY, needs_mmdet

needs_mmdet()

BOXES, CLASSES = 16, 5
RECORD = dict(cls=dict(type='ModuleOutputs', source='roi_head.bbox_head.fc_cls'))
PREDS = dict(
    preds_S=dict(from_student=True, recorder='cls'),
    preds_T=dict(from_student=False, recorder='cls'),
)
CAFFE = dict(mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0], bgr_to_rgb=False)


def detector(name: str = 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', **options):
    """A detector of mmdet with ResNet-18, five classes and few boxes."""
    model = copy.deepcopy(get_config(f'mmdet::{name}').model)
    model.backbone.update(depth=18, init_cfg=None)
    model.neck.in_channels = [64, 128, 256, 512]
    head = model.roi_head.bbox_head
    for part in head if isinstance(head, list) else [head]:
        part.update(num_classes=CLASSES, fc_out_channels=32)
    if not isinstance(head, list):
        model.train_cfg.rcnn.sampler.num = BOXES
    model.data_preprocessor.update(options.pop('data_preprocessor', {}))
    model.update(options, _scope_='mmdet')
    return model


def build(teacher=None, losses: dict | None = None, **options) -> nn.Module:
    torch.manual_seed(0)
    config = dict(
        type='mmkendall.RoILogitDistill',
        architecture=options.pop('architecture', None) or detector(),
        teacher=teacher or detector(),
        distiller=dict(
            _scope_='mmrazor',
            type='mmkendall.RankAugmentedDistiller',
            student_recorders=RECORD,
            teacher_recorders=RECORD,
            distill_losses=losses or dict(loss_kl=dict(type='KLDivergence', loss_weight=0.5)),
            loss_forward_mappings=dict(loss_kl=PREDS),
            rank_loss=dict(steepness=2.0),
            **options.pop('distiller', {}),
        ),
        **options,
    )
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(config)
    for name, parameter in model.named_parameters():
        if name.endswith('fc_cls.weight'):
            nn.init.normal_(parameter, std=0.3)
    return model.train()


def raw_batch() -> dict:
    """Two images of different sizes, with two boxes each."""
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    generator = torch.Generator().manual_seed(0)
    inputs, samples = [], []
    for height, width in ((64, 96), (80, 64)):
        image = torch.randint(0, 256, (3, height, width), generator=generator)
        inputs.append(image.to(torch.uint8))
        boxes = torch.tensor([[4.0, 6.0, 40.0, 44.0], [20.0, 10.0, 60.0, 60.0]])
        sample = DetDataSample(
            metainfo=dict(
                img_shape=(height, width), ori_shape=(height, width), scale_factor=(1.0, 1.0)
            ),
            gt_instances=InstanceData(bboxes=boxes, labels=torch.tensor([1, 4])),
            ignored_instances=InstanceData(bboxes=boxes[:0], labels=torch.tensor([]).long()),
        )
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def run(model: nn.Module):
    """The losses of one batch, the student's boxes, and both logits."""
    drawn = []
    loss_and_target = model.student.roi_head.bbox_head.loss_and_target

    def note(*args, rois, sampling_results, **kwargs):
        drawn.append((rois, [result.priors for result in sampling_results]))
        return loss_and_target(*args, rois=rois, sampling_results=sampling_results, **kwargs)

    model.student.roi_head.bbox_head.loss_and_target = note
    batch = model.data_preprocessor(raw_batch(), training=True)
    losses = model(**batch, mode='loss')
    (found,) = drawn
    student = model.distiller.student_recorders.get_recorder('cls').get_record_data()
    teacher = model.distiller.teacher_recorders.get_recorder('cls').get_record_data()
    return losses, found, student, teacher


def logits_of(model: nn.Module, inputs: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
    """What a detector alone says of boxes."""
    head = model.roi_head
    with torch.no_grad():
        features = model.extract_feat(inputs)[: head.bbox_roi_extractor.num_inputs]
        return head.bbox_head(head.bbox_roi_extractor(features, rois))[0]


@pytest.mark.parametrize('norm', [{}, CAFFE], ids=['same', 'caffe'])
def test_the_teacher_classifies_the_boxes_of_the_students_loss(norm):
    model = build(teacher=detector(data_preprocessor=norm))
    losses, (rois, priors), student, teacher = run(model)
    assert rois.shape == (2 * BOXES, 5)
    assert student.shape == teacher.shape == (2 * BOXES, CLASSES + 1)
    assert rois[:, 0].tolist() == [0.0] * BOXES + [1.0] * BOXES
    assert torch.equal(rois[:, 1:], torch.cat(priors))
    # The teacher's own preprocessing, from the pixels on.
    batch = model.teacher.data_preprocessor(raw_batch(), training=False)
    expected = logits_of(model.teacher, batch['inputs'], rois)
    torch.testing.assert_close(teacher, expected, rtol=1e-4, atol=1e-4)
    assert (expected.std(dim=0) > 1e-4).all()  # Logits of other boxes would differ.
    inputs = model.data_preprocessor(raw_batch(), training=True)['inputs']
    torch.testing.assert_close(student, logits_of(model.student, inputs, rois))
    # Every row counts, and the background is one of the classes.
    torch.testing.assert_close(
        losses['distill.loss_rank'], 0.5 * kendall_rank_loss(student, teacher, 2.0)
    )


def test_gradients_reach_the_student_alone():
    model = build()
    before = copy.deepcopy(model.teacher.state_dict())
    losses, *_ = run(model)
    losses['distill.loss_rank'].backward()
    student = dict(model.student.named_parameters())
    for name in ('roi_head.bbox_head.fc_cls.weight', 'backbone.layer4.0.conv1.weight'):
        assert (student[name].grad != 0).any(), name
    # The ranking is of classes: neither boxes nor the RPN learn from it.
    for name in ('roi_head.bbox_head.fc_reg.weight', 'rpn_head.rpn_cls.weight'):
        assert student[name].grad is None, name
    assert all(parameter.grad is None for parameter in model.teacher.parameters())
    for name, value in model.teacher.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_several_teachers_and_none():
    model = build(teacher=[dict(model=detector(), weight=3.0), dict(model=detector(), weight=1.0)])
    losses, (rois, _), student, _ = run(model)
    inputs = model.data_preprocessor(raw_batch(), training=True)['inputs']
    terms = [
        kendall_rank_loss(student, logits_of(teacher, inputs, rois), 2.0)
        for teacher in model.teachers
    ]
    torch.testing.assert_close(
        losses['distill.loss_rank'], 0.5 * (0.75 * terms[0] + 0.25 * terms[1])
    )
    model.distillation_stopped = True
    batch = model.data_preprocessor(raw_batch(), training=True)
    assert not [name for name in model(**batch, mode='loss') if name.startswith('distill.')]


def test_no_mask_head_of_the_teacher_runs():
    teacher = detector('mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py')
    teacher.roi_head.mask_head.num_classes = CLASSES
    model = build(teacher=teacher)

    def fail(*args):
        raise AssertionError('the mask head ran')

    model.teacher.roi_head.mask_head.register_forward_pre_hook(fail)
    _, (rois, _), _, teacher_logits = run(model)
    assert len(teacher_logits) == len(rois)


def test_it_predicts_as_the_student():
    model = build().eval()
    batch = model.data_preprocessor(raw_batch(), training=False)
    with torch.no_grad():
        (first, second) = model(**batch, mode='predict')
        (alone, _) = model.student(**model.data_preprocessor(raw_batch()), mode='predict')
    assert second.pred_instances.bboxes.shape[1] == 4
    torch.testing.assert_close(first.pred_instances.scores, alone.pred_instances.scores)
    # A teacher's own boxes, for the validation of a teacher.
    assert len(model.teacher_val_step(raw_batch())) == 2


def test_images_without_boxes_are_refused():
    model = build(calculate_student_loss=False)
    batch = model.data_preprocessor(raw_batch(), training=True)
    samples = [type(sample)(metainfo=sample.metainfo) for sample in batch['data_samples']]
    with pytest.raises(ValueError, match='needs images with ground-truth boxes'):
        model(batch['inputs'], samples, mode='loss')


def test_parts_of_the_student_are_found_and_set_there():
    model = build()
    assert model.roi_head is model.student.roi_head
    # mmdet's YOLOXModeSwitchHook sets such an attribute of a head.
    model.rpn_head.use_l1 = True
    assert model.student.rpn_head.use_l1
    assert model.with_rpn
    with pytest.raises(NotImplementedError, match='a FasterRCNN does not'):
        model.get_layer_depth('architecture.backbone.conv1.weight')


def test_every_trained_parameter_has_a_gradient():
    model = build(calculate_student_loss=False)
    batch = model.data_preprocessor(raw_batch(), training=True)
    losses = model(**batch, mode='loss')
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


def test_other_detectors_are_refused():
    cascade = detector('cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py')
    with pytest.raises(TypeError, match=r'teacher must be .* got a CascadeRCNN with a'):
        build(teacher=cascade)
    dense = dict(cfg_path='mmdet::retinanet/retinanet_r18_fpn_1x_coco.py')
    with pytest.raises(TypeError, match=r'architecture must be .* a RetinaNet with no roi_head'):
        build(architecture=dense)


def test_wrong_options():
    with pytest.raises(ValueError, match=r'input_size must be None .* got \[\(64, 64\)\]'):
        build(teacher=[dict(model=detector(), input_size=64)])
    with pytest.raises(ValueError, match='cannot be cached for a RoILogitDistill'):
        build(teacher_logits='somewhere')
    delivery = dict(
        type='MethodOutputs', max_keep_data=1, method_path='torch.nn.Linear.extra_repr'
    )
    with pytest.raises(ValueError, match='the student runs first'):
        build(distiller=dict(distill_deliveries=dict(text=delivery)))


def test_pasted_into_a_config_of_mmrazor(tmp_path):
    """The example of docs/detection.md, as it stands there."""
    text = (REPOSITORY / 'docs' / 'detection.md').read_text()
    (example,) = re.findall(r'```python\n(.*?)```', text, re.DOTALL)
    path = tmp_path / 'config.py'
    path.write_text(example)
    cfg = load_config(str(path))
    check_distill_config(cfg)
    cfg.model.teacher_ckpt = None
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model).train()
    losses, (rois, _), student, teacher = run(model)
    assert student.shape == teacher.shape == (len(rois), 81)
    terms = {'loss_kl', 'loss_rank', *(f'loss_pkd_fpn{level}' for level in range(4))}
    assert {f'distill.{name}' for name in terms} <= losses.keys()
    torch.testing.assert_close(losses['distill.loss_rank'], kendall_rank_loss(student, teacher))

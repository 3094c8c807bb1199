"""Every config of COCO and Cityscapes: its data, its model, and a few iterations of training."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, DefaultScope
from mmengine.runner import Runner

from mmkendall.compat.safe_loading import load

from ..conftest import REPOSITORY, needs_mmdet, run_tool
from ..test_configs.test_cifar100_trains import Witness
from .conftest import TOOL, on_cityscapes, on_coco

needs_mmdet()

FOLDER = REPOSITORY / 'configs'
CONFIGS = sorted([*FOLDER.glob('coco/*/*.py'), *FOLDER.glob('cityscapes/*/*.py')])
ITERATIONS = 6
# What each detector or segmentor logs beside what distillation logs.
OWN = {
    'FasterRCNN': {'loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox'},
    'RetinaNet': {'loss_cls', 'loss_bbox'},
    'EncoderDecoder': {'decode.loss_ce', 'aux.loss_ce'},
}
SCORES = {'coco': 'coco/bbox_mAP', 'cityscapes': 'mIoU'}

every_config = pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)


@pytest.fixture
def data(path, coco, cityscapes) -> Path:
    if 'cityscapes' in path.name:
        pytest.importorskip('mmseg', reason='mmseg is missing: make test-det')
        return cityscapes
    return coco


def on_small_set(cfg: Config, data: Path) -> dict:
    return (on_cityscapes if cfg.default_scope == 'mmseg' else on_coco)(data)


def small(cfg: Config) -> dict:
    """Options for a network that starts from nothing, and small images without a draw."""
    options = {}
    student = cfg.model.architecture
    if cfg.default_scope == 'mmseg':
        for holder in ('data_preprocessor', 'model.architecture.data_preprocessor'):
            options[f'{holder}.size'] = (64, 128)
        options['model.architecture.pretrained'] = None
        options['optim_wrapper.optimizer.lr'] = 0.01
    else:
        options['model.architecture.backbone.init_cfg'] = None
        options['optim_wrapper.optimizer.lr'] = 0.002
        # Without pretrained weights there are no statistics of BatchNorm to keep.
        options['model.architecture.backbone.norm_eval'] = False
    # What has learnt next to nothing must find something, or there is nothing to score.
    if 'bbox_head' in student:
        options['model.architecture.test_cfg.score_thr'] = 0.0
    if 'roi_head' in student:
        options['model.architecture.test_cfg.rcnn.score_thr'] = 0.0
        # All of few proposals in place of 512 boxes drawn out of 1,000: which of them are drawn
        # changes the loss more than a few iterations do.
        options['model.architecture.train_cfg.rpn_proposal.max_per_img'] = 48
        options['model.architecture.train_cfg.rcnn.sampler.num'] = 64
        options['model.architecture.train_cfg.rcnn.sampler.pos_fraction'] = 1.0
    changes = {
        'RandomFlip': dict(prob=0.0),
        'RandomChoiceResize': dict(scales=[(TOOL.WIDTH, TOOL.HEIGHT)]),
        'Resize': dict(scale=(TOOL.WIDTH, TOOL.HEIGHT)),
        'RandomResize': dict(scale=(128, 64), ratio_range=(1.0, 1.0)),
        'RandomCrop': dict(crop_size=(64, 128)),
    }
    for index, step in enumerate(cfg.train_dataloader.dataset.pipeline):
        for name, value in changes.get(step.type, {}).items():
            options[f'train_dataloader.dataset.pipeline.{index}.{name}'] = value
    return options


@every_config
def test_data_and_model(path, data):
    cfg = Config.fromfile(path)
    cfg.merge_from_dict(on_small_set(cfg, data))
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        sample = DATASETS.build(cfg.train_dataloader.dataset)[0]
        validation = DATASETS.build(cfg.val_dataloader.dataset)
        model = MODELS.build({**cfg.model, 'teacher_ckpt': None})
    assert len(validation) == 2
    height, width = sample['inputs'].shape[1:]
    if cfg.default_scope == 'mmseg':
        assert (height, width) == (512, 1024)
        assert sample['data_samples'].gt_sem_seg.shape == (512, 1024)
    else:
        assert 640 <= min(height, width) <= 800
        assert len(sample['data_samples'].gt_instances) == 2
    # The very names of the zoo's networks.
    for role in ('Teacher', 'Student'):
        network = model.teacher if role == 'Teacher' else model.student
        depth = path.stem.split('_')[2 if role == 'Teacher' else 3].rpartition('-')[2]
        backbone = network.backbone
        assert depth == ('v2' if not hasattr(backbone, 'depth') else f'r{backbone.depth}')
    length = cfg.train_cfg.get('max_iters') or cfg.train_cfg.max_epochs
    for scheduler in cfg.param_scheduler:
        assert max(scheduler.get('milestones', [0])) < length


@every_config
def test_trains(path, data, teachers, tmp_path, monkeypatch):
    # mmengine pauses for two seconds before each new pass through the data.
    monkeypatch.setattr('mmengine.runner.loops.time.sleep', lambda seconds: None)
    cfg = Config.fromfile(path)
    loop = 'max_iters' if 'max_iters' in cfg.train_cfg else 'max_epochs'
    cfg.merge_from_dict(
        {
            **on_small_set(cfg, data),
            **small(cfg),
            'model.teacher_ckpt': teachers(cfg.model.teacher.cfg_path),
            f'train_cfg.{loop}': ITERATIONS,
            'train_cfg.val_interval': ITERATIONS,
            'default_hooks.checkpoint': None,
            'param_scheduler': None,
            'randomness': dict(seed=0),
            'log_level': 'ERROR',
            'work_dir': str(tmp_path),
            'experiment_name': f'test_{path.stem}',
        }
    )
    runner = Runner.from_cfg(cfg)
    witness = Witness()
    runner.register_hook(witness)
    runner.train()

    assert len(witness.records) == ITERATIONS
    assert all(math.isfinite(value) for record in witness.records for value in record.values())
    for name in ('loss', *(['distill.loss_rank'] if '-rank' in path.stem else [])):
        assert witness.records[-1][name] < witness.records[0][name], name
    base = 'loss_dkd' if path.name.startswith('dkd') else 'loss_kl'
    terms = {f'distill.{base}'} | ({'distill.loss_rank'} if '-rank' in path.stem else set())
    own = {f'student.{name}' for name in OWN[type(runner.model.student).__name__]}
    for record in witness.records:
        assert {name for name in record if 'distill.' in name} == terms
        assert own <= record.keys()
        assert all(record[name] > 0 for name in terms)

    checkpoint = load(cfg.model.teacher_ckpt)['state_dict']
    for name, value in runner.model.teacher.state_dict().items():
        assert torch.equal(value, checkpoint[name]), name
    assert not [name for name in witness.gradients if name.startswith('teacher.')]
    for name, value in runner.model.architecture.named_parameters():
        # Of mmdet's MobileNetV2, the classifier's convolution, which no detector reads.
        unread = 'mobilenet' in path.stem and name.startswith('backbone.conv2.')
        if value.requires_grad and not unread:
            assert 0 < witness.gradients[f'architecture.{name}'] < math.inf, name

    score = runner.message_hub.get_scalar(f'val/{SCORES[path.parts[-3]]}').current()
    assert 0 <= score <= 100


def test_starts_by_name_and_gives_a_detector(coco, teachers, tmp_path):
    """What a user does: train by name, test the checkpoint, take the plain student out."""
    name = 'coco/kd/kd-rank_logits_faster-rcnn-r101_faster-rcnn-r18_4xb2-180k_coco'
    cfg = Config.fromfile(FOLDER / f'{name}.py')
    options = {
        **on_coco(coco),
        **small(cfg),
        'model.teacher_ckpt': teachers(cfg.model.teacher.cfg_path),
        'train_cfg.max_iters': 2,
        'train_cfg.val_interval': 2,
        'default_hooks.checkpoint.interval': 2,
        'default_hooks.logger.interval': 1,
    }
    settings = [f'{key}={value}'.replace(' ', '') for key, value in options.items()]
    arguments = ('--work-dir', tmp_path / 'run', '--cfg-options', *settings)
    done = run_tool('train.py', f'mmkendall::{name}.py', *arguments, cwd=tmp_path)
    assert 'distill.loss_rank' in done.stdout
    (trained_score,) = re.findall(r'coco/bbox_mAP: ([0-9.]+)', done.stdout)

    checkpoint = tmp_path / 'run' / 'iter_2.pth'
    done = run_tool('test.py', f'mmkendall::{name}.py', checkpoint, *arguments, cwd=tmp_path)
    assert re.findall(r'coco/bbox_mAP: ([0-9.]+)', done.stdout) == [trained_score]

    run_tool(
        'model_converters/student_from_distill.py', checkpoint, tmp_path / 'student.pth',
        cwd=tmp_path,
    )  # fmt: skip
    student = load(tmp_path / 'student.pth')['state_dict']
    with DefaultScope.overwrite_default_scope('mmdet'):
        detector = MODELS.build(cfg.model.architecture)
    detector.load_state_dict(student)
    with_teacher = load(checkpoint)['state_dict']
    assert not [key for key in with_teacher if key.startswith('teacher')]

"""Every config of COCO and Cityscapes: its data, its model, and a few iterations of training."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, DefaultScope
from mmengine.runner import Runner

from ..conftest import REPOSITORY, needs_mmdet
from ..test_configs.test_cifar100_trains import Witness
from .conftest import HEIGHT, WIDTH, on_cityscapes, on_coco

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
    else:
        options['model.architecture.backbone.init_cfg'] = None
    if 'roi_head' in student:  # 64 boxes in place of 512, out of fewer proposals.
        options['model.architecture.train_cfg.rcnn.sampler.num'] = 64
        options['model.architecture.train_cfg.rpn_proposal.nms_pre'] = 200
    changes = {
        'RandomFlip': dict(prob=0.0),
        'RandomChoiceResize': dict(scales=[(WIDTH, HEIGHT)]),
        'Resize': dict(scale=(WIDTH, HEIGHT)),
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
def test_trains(path, data, teachers, tmp_path):
    cfg = Config.fromfile(path)
    loop = 'max_iters' if 'max_iters' in cfg.train_cfg else 'max_epochs'
    cfg.merge_from_dict(
        {
            **on_small_set(cfg, data),
            **small(cfg),
            'model.teacher_ckpt': teachers(cfg.model.teacher.cfg_path),
            f'train_cfg.{loop}': ITERATIONS,
            'train_cfg.val_interval': ITERATIONS,
            'default_hooks.checkpoint.interval': ITERATIONS,
            'param_scheduler': None,
            'optim_wrapper.optimizer.lr': 0.005,
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
    assert witness.records[-1]['loss'] < witness.records[0]['loss']
    base = 'loss_dkd' if path.name.startswith('dkd') else 'loss_kl'
    terms = {f'distill.{base}'} | ({'distill.loss_rank'} if '-rank' in path.stem else set())
    own = {f'student.{name}' for name in OWN[type(runner.model.student).__name__]}
    for record in witness.records:
        assert {name for name in record if 'distill.' in name} == terms
        assert own <= record.keys()
        assert all(record[name] > 0 for name in terms)

    checkpoint = torch.load(cfg.model.teacher_ckpt, weights_only=True)['state_dict']
    for name, value in runner.model.teacher.state_dict().items():
        assert torch.equal(value, checkpoint[name]), name
    assert not [name for name in witness.gradients if name.startswith('teacher.')]
    for name, value in runner.model.architecture.named_parameters():
        if value.requires_grad:
            assert 0 < witness.gradients[f'architecture.{name}'] < math.inf, name

    score = runner.message_hub.get_scalar(f'val/{SCORES[path.parts[-3]]}').current()
    assert 0 <= score <= 100

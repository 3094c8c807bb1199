"""COCO and Cityscapes as small sets in the real formats, and detectors that are quick to run."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..conftest import load_tool

TOOL = load_tool('analysis_tools/mmrazor_configs.py')


@pytest.fixture(scope='session')
def coco(tmp_path_factory) -> Path:
    """Two images to train and two to validate, with two boxes each, as COCO has them."""
    root = tmp_path_factory.mktemp('coco')
    TOOL.write_coco(root)
    return root


@pytest.fixture(scope='session')
def cityscapes(tmp_path_factory) -> Path:
    """Two images to train and two to validate in Cityscapes' folders, under its names."""
    root = tmp_path_factory.mktemp('cityscapes')
    TOOL.write_cityscapes(root)
    return root


@pytest.fixture(scope='session')
def teachers(tmp_path_factory):
    """Checkpoints of untrained teachers, by the path of their config, each written once."""
    import torch
    from mmengine.hub import get_model

    folder = tmp_path_factory.mktemp('teachers')
    paths: dict[str, Path] = {}

    def checkpoint(config: str) -> str:
        if config not in paths:
            torch.manual_seed(0)
            model = get_model(config)
            for name, parameter in model.named_parameters():
                # Logits that differ from class to class.
                if name.endswith(('fc_cls.weight', 'retina_cls.weight', 'conv_seg.weight')):
                    torch.nn.init.normal_(parameter, std=0.3)
            paths[config] = folder / f'{len(paths)}.pth'
            torch.save({'state_dict': model.state_dict(), 'meta': {}}, paths[config])
        return str(paths[config])

    return checkpoint


def on_coco(folder: Path) -> dict:
    """Options that put a COCO config on the small set, whole, in its own size."""
    options = {}
    for loader, split in (
        ('train_dataloader', 'train2017'),
        ('val_dataloader', 'val2017'),
        ('test_dataloader', 'val2017'),
    ):
        options |= {
            f'{loader}.dataset.data_root': f'{folder}/',
            f'{loader}.dataset.ann_file': f'annotations/instances_{split}.json',
            f'{loader}.num_workers': 0,
            f'{loader}.persistent_workers': False,
        }
    for evaluator in ('val_evaluator', 'test_evaluator'):
        options[f'{evaluator}.ann_file'] = f'{folder}/annotations/instances_val2017.json'
    for loader in ('val_dataloader', 'test_dataloader'):
        options[f'{loader}.dataset.pipeline.1.scale'] = (TOOL.WIDTH, TOOL.HEIGHT)
    return options


def on_cityscapes(folder: Path) -> dict:
    """The same for a Cityscapes config."""
    options = {}
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        options |= {
            f'{loader}.dataset.data_root': f'{folder}/',
            f'{loader}.num_workers': 0,
            f'{loader}.persistent_workers': False,
        }
    for loader in ('val_dataloader', 'test_dataloader'):
        options[f'{loader}.dataset.pipeline.1.scale'] = (128, 64)
    return options

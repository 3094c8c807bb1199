"""COCO and Cityscapes as small sets in the real formats, and detectors that are quick to run."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

# COCO's category ids of its 80 classes have these gaps.
GAPS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
WIDTH, HEIGHT = 128, 96


@pytest.fixture(scope='session')
def coco(tmp_path_factory) -> Path:
    """Two images to train and two to validate, with two boxes each, as COCO has them."""
    from mmdet.datasets import CocoDataset

    root = tmp_path_factory.mktemp('coco')
    (root / 'annotations').mkdir()
    ids = [index for index in range(1, 91) if index not in GAPS]
    names = CocoDataset.METAINFO['classes']
    rng = np.random.default_rng(0)
    for split in ('train2017', 'val2017'):
        (root / split).mkdir()
        images, annotations = [], []
        for image_id in (1, 2):
            pixels = rng.integers(0, 90, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            for left, top, side in ((8, 12, 40), (60, 20, 64)):
                category = int(rng.choice(ids))
                pixels[top : top + side, left : left + side] = rng.integers(100, 255, 3)
                right, bottom = left + side, top + side
                annotations.append(
                    {
                        'id': len(annotations) + 1,
                        'image_id': image_id,
                        'category_id': category,
                        'bbox': [left, top, side, side],
                        'area': side * side,
                        'iscrowd': 0,
                        'segmentation': [[left, top, right, top, right, bottom, left, bottom]],
                    }
                )
            file = f'{image_id:012d}.jpg'
            cv2.imwrite(str(root / split / file), pixels)
            images.append({'id': image_id, 'file_name': file, 'width': WIDTH, 'height': HEIGHT})
        content = {
            'info': {},
            'licenses': [],
            'images': images,
            'annotations': annotations,
            'categories': [
                {'id': index, 'name': name, 'supercategory': 'thing'}
                for index, name in zip(ids, names, strict=True)
            ],
        }
        (root / 'annotations' / f'instances_{split}.json').write_text(json.dumps(content))
    return root


@pytest.fixture(scope='session')
def cityscapes(tmp_path_factory) -> Path:
    """Two images to train and two to validate in Cityscapes' folders, under its names."""
    root = tmp_path_factory.mktemp('cityscapes')
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        for folder in ('leftImg8bit', 'gtFine'):
            (root / folder / split / 'aachen').mkdir(parents=True)
        for index in range(2):
            stem = f'aachen_{index:06d}_000019'
            # Blocks of 16 x 16 pixels, each of one class and of the color of that class.
            labels = rng.integers(0, 19, (4, 8), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
            labels[:2] = 255  # ignored
            image = np.stack([labels * 13, 255 - labels * 13, labels * 7], axis=2)
            folder = root / 'leftImg8bit' / split / 'aachen'
            cv2.imwrite(str(folder / f'{stem}_leftImg8bit.png'), image.astype(np.uint8))
            folder = root / 'gtFine' / split / 'aachen'
            cv2.imwrite(str(folder / f'{stem}_gtFine_labelTrainIds.png'), labels)
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
        options[f'{loader}.dataset.pipeline.1.scale'] = (WIDTH, HEIGHT)
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

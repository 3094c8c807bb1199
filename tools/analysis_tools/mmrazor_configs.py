"""Try every distillation config that mmrazor ships, and write down what came of it.

    python tools/analysis_tools/mmrazor_configs.py --output docs/mmrazor_configs.md
    python tools/analysis_tools/mmrazor_configs.py kd_logits_resnet34 dkd

Each is loaded, given the ranking loss as by ``--rank-loss``, and trained for an epoch of two
batches of small made-up images in the files of its data set: nothing is downloaded, so teachers
have random weights. Each has a process of its own.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import pickle
import subprocess
import sys
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path
from urllib.error import URLError

import numpy as np

from mmkendall import compat

HEADER = '| config | loads | --rank-loss | trains | what it says |\n|---|---|---|---|---|'
OPERATORS = ('mmdet', 'mmdet3d', 'mmseg')
TIMEOUT = 900
# COCO's category ids of its 80 classes have these gaps.
GAPS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
WIDTH, HEIGHT = 128, 96
# Where the images are, of which those of the data set itself are large.
LARGE = ('data/coco', 'data/cityscapes')


def config_names() -> list[str]:
    """Paths of mmrazor's configs with a distiller, or below ``distill``, in order."""
    root = Path(find_spec('mmrazor').origin).parent / '.mim' / 'configs'
    names = []
    for path in sorted(root.rglob('*.py')):
        name = path.relative_to(root).as_posix()
        is_data = '/datasets/' in name or name.startswith('_base_')
        if not is_data and (name.startswith('distill/') or 'distiller=' in path.read_text()):
            names.append(name)
    return names


def write_images(root: Path) -> None:
    """Eight images in the files of ImageNet, CIFAR-10 and CIFAR-100."""
    import cv2

    rng = np.random.default_rng(0)
    imagenet = root / 'data' / 'imagenet'
    (imagenet / 'meta').mkdir(parents=True)
    (imagenet / 'train').mkdir()
    lines = []
    for index in range(8):
        image = rng.integers(0, 256, (240, 240, 3), dtype=np.uint8)
        cv2.imwrite(str(imagenet / 'train' / f'{index}.JPEG'), image)
        lines.append(f'{index}.JPEG {index}')
    (imagenet / 'meta' / 'train.txt').write_text('\n'.join(lines))
    for folder, files, classes in (
        ('cifar10/cifar-10-batches-py', ('data_batch_1', 'test_batch', 'batches.meta'), 10),
        ('cifar100/cifar-100-python', ('train', 'test', 'meta'), 100),
    ):
        (root / 'data' / folder).mkdir(parents=True)
        labels = list(range(8))
        content = {
            'data': rng.integers(0, 256, (8, 3072), dtype=np.uint8),
            'labels' if classes == 10 else 'fine_labels': labels,
        }
        names = [str(index) for index in range(classes)]
        meta = {'label_names': names, 'fine_label_names': names}
        for name in files:
            kind = meta if 'meta' in name else content
            (root / 'data' / folder / name).write_bytes(pickle.dumps(kind))


def write_coco(root: Path) -> None:
    """Two images to train and two to validate, with two boxes each, as COCO has them."""
    import cv2
    from mmdet.datasets import CocoDataset

    (root / 'annotations').mkdir(parents=True)
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


def write_cityscapes(root: Path) -> None:
    """Two images to train and two to validate in Cityscapes' folders, under its names."""
    import cv2

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


def offline(node) -> None:
    """Takes out what would be downloaded, wherever it stands in a config."""
    if isinstance(node, dict):
        if node.get('pretrained') is True:
            node['pretrained'] = False
        node.pop('ckpt_path', None)
        if node.get('teacher_ckpt') is not None:
            node['teacher_ckpt'] = None
    for child in node.values() if isinstance(node, dict) else node:
        if isinstance(child, (dict, list)):
            offline(child)


def shorten(cfg) -> None:
    """Two batches of four images, no validation."""
    offline(cfg.model)
    if 'distillation_times' in cfg.model:  # The iteration after which DMCP distils.
        cfg.model.distillation_times = 0
    loader = cfg.train_dataloader
    loader.update(batch_size=4, num_workers=0, persistent_workers=False)
    loader.pop('prefetch_factor', None)
    dataset = loader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    if dataset.type.endswith('ImageNet'):
        dataset.pop('split', None)
        dataset.update(ann_file='meta/train.txt', data_prefix='train')
    if (dataset.get('data_root') or '').rstrip('/') in LARGE:
        for transform in dataset.pipeline:
            for key, small in (('scale', (2 * WIDTH, 2 * HEIGHT)), ('crop_size', (64, 64))):
                if key in transform:
                    transform[key] = small
    if 'max_iters' in cfg.train_cfg:
        cfg.train_cfg.max_iters = 2
    else:
        cfg.train_cfg.max_epochs = 1
    for part in ('val', 'test'):
        cfg[f'{part}_cfg'] = cfg[f'{part}_dataloader'] = cfg[f'{part}_evaluator'] = None
    # It draws subnets after the training until one has the wanted size, which may take hours.
    # The other draws the images of a validation.
    hooks = cfg.get('custom_hooks') or []
    left_out = ('DMCPSubnetHook', 'RazorVisualizationHook')
    cfg.custom_hooks = [hook for hook in hooks if not hook.type.endswith(left_out)]
    for name, hook in list(cfg.default_hooks.items()):
        if hook.type.endswith(left_out):
            del cfg.default_hooks[name]
    cfg.param_scheduler = None
    cfg.default_hooks.logger.interval = 1
    cfg.work_dir, cfg.log_level = 'work_dirs', 'ERROR'


def try_config(name: str) -> dict[str, str]:
    """What becomes of one config, in the folder of the images: yes or no, and why not."""
    from mmengine.model import PretrainedInit
    from mmengine.runner import Runner
    from mmpretrain.datasets import CIFAR10, CIFAR100

    from mmkendall.engine.distill_config import ConfigError, add_rank_loss, load_config

    result = dict.fromkeys(('loads', 'rank', 'trains'), 'no')
    # Also in a config that another one names by its path.
    PretrainedInit.__call__ = lambda self, module: None
    # Other files than the data set's own: no checksum is asked of them.
    CIFAR10.train_list, CIFAR100.train_list = [['data_batch_1', None]], [['train', None]]
    CIFAR10.test_list, CIFAR100.test_list = [['test_batch', None]], [['test', None]]
    for kind in (CIFAR10, CIFAR100):
        kind.meta = {**kind.meta, 'md5': None}
    said = []
    try:
        cfg = load_config(f'mmrazor::{name}')
        result['loads'] = 'yes'
        try:
            add_rank_loss(cfg, {'steepness': 10})
            result['rank'] = 'yes'
        except ConfigError as error:
            said.append(str(error).split(': it knows')[0])
        shorten(cfg)
        runner = Runner.from_cfg(cfg)
        for module in runner.model.modules():  # Of a config that is named by its path.
            if getattr(module, 'size', None) == (512, 1024):
                module.size = (64, 64)  # To which images are padded.
        runner.train()
        logged = runner.message_hub.log_scalars
        wanted = 'loss_rank' if result['rank'] == 'yes' else 'loss'
        terms = [value.current() for key, value in logged.items() if wanted in key]
        if terms and all(math.isfinite(term) for term in terms):
            result['trains'] = 'yes'
        else:
            said.append(f'no finite {wanted} among {", ".join(logged)}')
    except URLError:
        result['trains'] = 'not tried'
        said.append('its network fetches weights by itself, and nothing is downloaded')
    except Exception as error:  # Whatever it is, it goes into the table.
        said.append(f'{type(error).__name__}: {error}')
    result['says'] = '; '.join(' '.join(text.split()) for text in said)
    return result


def try_in_process(name: str, folder: Path) -> dict[str, str]:
    """The same from a process of its own, which may end as it likes."""
    package = name.split('/')[1]
    if package in OPERATORS:
        says = '' if find_spec(package) else f'{package} is not installed'
        if find_spec('mmcv._ext') is None:
            says = "needs mmcv's operators (docs/detection.md), which are not installed"
        if says:
            return dict(loads='not tried', rank='not tried', trains='not tried', says=says)
    command = [sys.executable, str(Path(__file__).resolve()), '--one', name]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [''])[-1]
        return dict(loads='no', rank='no', trains='no', says=f'ended with {last}')
    return json.loads(done.stdout.splitlines()[-1])


def as_row(name: str, result: dict[str, str]) -> str:
    says = result['says'].replace('|', '/')
    says = says if len(says) < 160 else f'{says[:157]}...'
    return f'| {name} | {result["loads"]} | {result["rank"]} | {result["trains"]} | {says} |'


def read_table(text: str) -> dict[str, tuple[str, ...]]:
    """What a table says of each config: loads, takes the ranking loss, trains."""
    rows = [line.strip('| ').split(' | ') for line in text.splitlines() if '.py |' in line]
    return {row[0]: tuple(row[1:4]) for row in rows}


def main() -> int:
    parser = argparse.ArgumentParser(description="Try mmrazor's distillation configs")
    parser.add_argument('names', nargs='*', help='only configs with one of these in their path')
    parser.add_argument('--output', help='a Markdown file whose table is written anew')
    parser.add_argument('--one', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        compat.apply()
        warnings.simplefilter('ignore')
        logging.disable(logging.WARNING)
        print(f'\n{json.dumps(try_config(args.one))}')
        return 0
    names = [
        name
        for name in config_names()
        if not args.names or any(part in name for part in args.names)
    ]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder))
        if find_spec('mmdet') is not None:
            write_coco(Path(folder) / 'data' / 'coco')
        write_cityscapes(Path(folder) / 'data' / 'cityscapes')
        for name in names:
            rows.append(as_row(name, try_in_process(name, Path(folder))))
            print(rows[-1], flush=True)
    if args.output:
        path = Path(args.output)
        text = path.read_text() if path.exists() else ''
        before = text.split('| config |')[0]
        if args.names and text:  # The others stay as they are.
            tried = {row.split()[1]: row for row in rows}
            lines = [line for line in text.splitlines() if '.py |' in line]
            rows = [tried.get(line.split()[1], line) for line in lines]
        path.write_text('\n'.join([before + HEADER, *rows]) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())

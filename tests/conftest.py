"""What several tests need: the mended stack and small data in the real formats."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

from mmkendall import compat

REPOSITORY = Path(__file__).resolve().parents[1]

# The same examples every time; a slow machine is no failure.
settings.register_profile('repeatable', derandomize=True, deadline=None)
settings.load_profile('repeatable')
compat.apply()


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(autouse=True)
def _fresh_globals(monkeypatch):
    """mmengine keeps the scope, the message hub and the logger of the last run for the process."""
    for holder in (DefaultScope, MessageHub, MMLogger, Visualizer):
        monkeypatch.setattr(holder, '_instance_dict', type(holder._instance_dict)())


@pytest.fixture(scope='session')
def imagenet_folder(tmp_path_factory) -> Path:
    """Sixteen images to train and eight to test, in ImageNet's folders with its lists."""
    import cv2

    root = tmp_path_factory.mktemp('imagenet')
    rng = np.random.default_rng(0)
    (root / 'meta').mkdir()
    for split, per_class in (('train', 4), ('val', 2)):
        lines = []
        for label, name in (
            (0, 'n01440764'),
            (217, 'n02102040'),
            (701, 'n03888257'),
            (999, 'n15'),
        ):
            (root / split / name).mkdir(parents=True)
            color = rng.integers(0, 255, 3)
            for index in range(per_class):
                noise = rng.integers(-40, 40, (60, 48, 3))
                image = np.clip(color + noise, 0, 255).astype(np.uint8)
                cv2.imwrite(str(root / split / name / f'{index}.JPEG'), image)
                lines.append(f'{name}/{index}.JPEG {label}')
        (root / 'meta' / f'{split}.txt').write_text('\n'.join(lines))
    return root


@pytest.fixture(scope='session')
def some_fonts() -> Path:
    """A folder of fonts that is always there: matplotlib's DejaVu and STIX, and math fonts."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / 'fonts' / 'ttf'


@pytest.fixture(scope='session')
def letters_folder(some_fonts, tmp_path_factory) -> Path:
    """The letters, as the command draws them from those fonts, two views of each."""
    folder = tmp_path_factory.mktemp('letters')
    run_tool(
        'dataset_converters/letters.py', folder, '--fonts', some_fonts, '--least', '3',
        '--views', '2', cwd=folder,
    )  # fmt: skip
    return folder


def needs_mmdet() -> None:
    """Skips a test that needs mmdet, and with it mmcv's compiled operators."""
    for module in ('mmcv._ext', 'mmdet'):
        pytest.importorskip(module, reason=f'{module} is missing: make test-det')


def imagenet_options(folder: Path) -> list[str]:
    """``--cfg-options`` that put an ImageNet config on the small folder, for two epochs."""
    options = ['train_cfg.max_epochs=2', 'default_hooks.logger.interval=1', 'randomness.seed=0']
    for loader, split in (
        ('train_dataloader', 'train'),
        ('val_dataloader', 'val'),
        ('test_dataloader', 'val'),
    ):
        options += [
            f'{loader}.dataset.data_root={folder}',
            f'{loader}.dataset.ann_file=meta/{split}.txt',
            f'{loader}.batch_size=8',
            f'{loader}.num_workers=0',
            f'{loader}.persistent_workers=False',
        ]
    # Small images and a constant learning rate: this is about the plumbing of the loss.
    options += ['train_dataloader.dataset.pipeline.1.scale=64', 'param_scheduler=None']
    for loader in ('val_dataloader', 'test_dataloader'):
        options.append(f'{loader}.dataset.pipeline.1.scale=64')
        options.append(f'{loader}.dataset.pipeline.2.crop_size=64')
    return options


def run_tool(*command: str | Path, cwd: Path, check: bool = True, **environment: str):
    """Runs a script of tools/ as a user would, from another folder."""
    first = str(command[0])
    interpreter = ['bash'] if first.endswith('.sh') else [sys.executable]
    # As in an activated environment: the launchers call `python`.
    environment.setdefault('PATH', os.environ['PATH'])
    environment['PATH'] = f'{Path(sys.executable).parent}:{environment["PATH"]}'
    done = subprocess.run(
        [*interpreter, str(REPOSITORY / 'tools' / first), *map(str, command[1:])],
        cwd=cwd,
        env={**os.environ, 'OMP_NUM_THREADS': '1', **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if check and done.returncode:
        pytest.fail(f'{" ".join(map(str, command))}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}')
    return done


def load_tool(name: str):
    """A script of tools/ as a module."""
    path = REPOSITORY / 'tools' / name
    spec = spec_from_file_location(f'tools_{path.stem}', path)
    tool = module_from_spec(spec)
    sys.modules[spec.name] = tool  # Its dataclasses look themselves up there.
    spec.loader.exec_module(tool)
    return tool


def call_tool(monkeypatch, *command: str | Path) -> int:
    """Runs the main() of a script of tools/ in this process, and returns its exit status."""
    tool = load_tool(command[0])
    monkeypatch.setattr('sys.argv', [str(part) for part in command])
    return tool.main()

"""Compute the teacher's logits for every augmented view of a training set, once, onto disk.

    python tools/dataset_converters/cache_teacher_logits.py CONFIG
    python tools/train.py CONFIG

CONFIG trains a mmkendall.LogitDistill with ``teacher_logits=FOLDER`` on a mmkendall.FixedViews:

    model = dict(type='mmkendall.LogitDistill', teacher_logits='data/teacher_logits')
    train_dataloader = dict(
        dataset=dict(
            _delete_=True, type='mmkendall.FixedViews', num_views=4, seed=0, dataset=dict(...)),
        sampler=dict(type='mmkendall.ViewSampler'))

The folder takes views x samples x teachers x classes x 2 bytes (float16), for instance 10 MB for
each view of CIFAR-100 and 2.6 GB for each of ImageNet. With --topk K it keeps the K highest logits
of each row and which classes they are of, 4 bytes each. Stopped, it goes on where it was.
"""

from __future__ import annotations

import argparse
import sys

from mmkendall import compat

compat.apply()

from mmengine.config import Config  # noqa: E402
from mmengine.dataset import pseudo_collate  # noqa: E402
from mmengine.device import get_device  # noqa: E402
from mmengine.registry import MODELS  # noqa: E402
from rich.console import Console  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from mmkendall.class_names import class_names  # noqa: E402
from mmkendall.datasets import FixedViews  # noqa: E402
from mmkendall.engine.distill_config import ConfigError  # noqa: E402
from mmkendall.engine.teacher_logits_build import (  # noqa: E402
    add_build_options,
    check_build,
    run_build,
    training_set,
    write_rows,
)
from mmkendall.models import LogitDistill  # noqa: E402
from mmkendall.models.algorithms.teacher_logits import (  # noqa: E402
    check_teacher_classes,
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config', help='a file, or package::path')
    add_build_options(parser, 'float16')
    return parser.parse_args()


def check(cfg: Config, args: argparse.Namespace) -> None:
    """Raises ConfigError before any work starts."""
    check_build(cfg, args)
    if cfg.model.get('teacher') is None:
        raise ConfigError(
            'model.teacher must be a network or a list of them, got None; a table of scores of '
            'any other teacher is written by scores_to_teacher_logits.py CONFIG TABLE'
        )


def build_model(cfg: Config) -> LogitDistill:
    """The model with its teacher, on the device, reading no cache.

    Only what has no weights yet is initialised: a teacher that was given as a model, or with a
    checkpoint, stays what it is.
    """
    cfg.model.teacher_logits = None
    given = cfg.model.teacher
    entries = given if isinstance(given, (list, tuple)) else [{'model': given}]
    model = MODELS.build(cfg.model)
    for entry, teacher in zip(entries, model.teachers, strict=True):
        if not isinstance(entry['model'], nn.Module) and not teacher.is_init:
            teacher.init_weights()
    return model.to(get_device()).eval()


def write_all(model: LogitDistill, dataset: FixedViews, folder: str, cfg, args, console) -> int:
    """Computes and writes what is missing; returns how many rows that was."""
    teacher_classes = list(getattr(model, 'teacher_classes', []))
    check_teacher_classes(class_names(dataset.metainfo), teacher_classes)
    first = model.data_preprocessor(pseudo_collate([dataset[0]]), True)
    logits = model.compute_teacher_logits(first['inputs'], first['data_samples'])
    about = {
        'classes': logits.shape[-1],
        'teachers': model.teacher_fingerprint(),
        'teacher_classes': teacher_classes,
    }

    def logits_of(batch: dict) -> tuple[Tensor, list]:
        batch = model.data_preprocessor(batch, True)
        samples = batch['data_samples']
        return model.compute_teacher_logits(batch['inputs'], samples), samples

    return write_rows(folder, dataset, about, logits_of, cfg, args, console)


def main() -> int:
    args = parse_args()

    def build(cfg: Config, folder: str, console: Console) -> int:
        model = build_model(cfg)
        return write_all(model, training_set(cfg), folder, cfg, args, console)

    return run_build('cache_teacher_logits', args, check, build)


if __name__ == '__main__':
    sys.exit(main())

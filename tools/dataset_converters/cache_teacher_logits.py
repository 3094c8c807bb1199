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
each view of CIFAR-100 and 2.6 GB for each of ImageNet. Stopped, it goes on where it was.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from mmkendall import compat

compat.apply()

from mmengine.config import Config  # noqa: E402
from mmengine.dataset import pseudo_collate  # noqa: E402
from mmengine.device import get_device  # noqa: E402
from mmengine.registry import MODELS, DefaultScope, Registry  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import (  # noqa: E402
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from torch import nn  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from mmkendall.class_names import class_names  # noqa: E402
from mmkendall.datasets import FixedViews  # noqa: E402
from mmkendall.engine.command_line import add_common_options, prepare_config  # noqa: E402
from mmkendall.engine.distill_config import ConfigError, check_distill_config  # noqa: E402
from mmkendall.engine.errors import REFUSALS  # noqa: E402
from mmkendall.models import LogitDistill  # noqa: E402
from mmkendall.models.algorithms.teacher_logits import (  # noqa: E402
    DTYPES,
    TeacherLogitsWriter,
    check_teacher_classes,
)
from mmkendall.registry import DATASETS  # noqa: E402

# A stopped build loses at most this much work.
FLUSH_SECONDS = 10


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config', help='a file, or package::path')
    parser.add_argument('--out', help='folder to write; default: model.teacher_logits')
    parser.add_argument('--dtype', choices=DTYPES, default='float16', help='default: float16')
    parser.add_argument(
        '--batch-size', type=int, help="images at a time; default: the training dataloader's"
    )
    parser.add_argument(
        '--workers', type=int, help="loading processes; default: the training dataloader's"
    )
    add_common_options(parser)
    return parser.parse_args()


def check(cfg: Config, args: argparse.Namespace) -> None:
    """Raises ConfigError before any work starts."""
    if args.launcher != 'none':
        raise ConfigError(f'--launcher must be none, got {args.launcher!r}: one process writes')
    for name, least in (('batch_size', 1), ('workers', 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise ConfigError(f'--{name.replace("_", "-")} must be {least} or more, got {value}')
    kind = cfg.get('model', {}).get('type')
    if not is_kind(kind, MODELS, LogitDistill, cfg):
        raise ConfigError(f"model.type must be 'mmkendall.LogitDistill', got {kind!r}")
    if args.out is None and cfg.model.get('teacher_logits') is None:
        raise ConfigError('model.teacher_logits must name a folder, got None; or pass --out')
    dataset = cfg.get('train_dataloader', {}).get('dataset', {})
    if not is_kind(dataset.get('type'), DATASETS, FixedViews, cfg):
        raise ConfigError(
            "train_dataloader.dataset.type must be 'mmkendall.FixedViews', so that every image "
            f'comes again as it was, got {dataset.get("type")!r}'
        )
    check_distill_config(cfg)


def is_kind(kind: str | type | None, registry: Registry, wanted: type, cfg: Config) -> bool:
    """Whether a ``type`` of a config, by any of its names or as a class, is of a class."""
    if isinstance(kind, str):
        with registry.switch_scope_and_registry(cfg.get('default_scope')) as inner:
            kind = inner.get(kind)
    return isinstance(kind, type) and issubclass(kind, wanted)


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


def make_loader(dataset: FixedViews, first: int, cfg: Config, args: argparse.Namespace):
    """Batches of all rows from ``first`` on, in order."""
    loader = cfg.train_dataloader
    workers = loader.get('num_workers', 0) if args.workers is None else args.workers
    return DataLoader(
        dataset,
        batch_size=args.batch_size or loader.batch_size,
        sampler=range(first, dataset.num_rows),
        num_workers=workers,
        collate_fn=pseudo_collate,
    )


def write_all(model: LogitDistill, dataset: FixedViews, folder: str, cfg, args, console) -> int:
    """Computes and writes what is missing; returns how many rows that was."""
    made_of = {
        'rows': dataset.num_rows,
        'samples': len(dataset),
        'views': dataset.num_views,
        'seed': dataset.seed,
        'dtype': args.dtype,
        'teachers': model.teacher_fingerprint(),
        'dataset_classes': class_names(dataset.metainfo),
        'teacher_classes': list(getattr(model, 'teacher_classes', [])),
    }
    check_teacher_classes(made_of['dataset_classes'], made_of['teacher_classes'])
    first = model.data_preprocessor(pseudo_collate([dataset[0]]), True)
    logits = model.compute_teacher_logits(first['inputs'], first['data_samples'])
    made_of['classes'] = logits.shape[-1]
    writer = TeacherLogitsWriter(folder, made_of)
    try:
        return append_all(writer, model, dataset, cfg, args, console)
    finally:
        writer.close()


def append_all(writer: TeacherLogitsWriter, model, dataset, cfg, args, console) -> int:
    """Writes the rows that are missing, and returns how many that was."""
    begin = writer.rows_done
    if begin:
        console.print(f'{begin} of {dataset.num_rows} rows are there already.', soft_wrap=True)
    columns = (
        TextColumn('teacher logits'), BarColumn(), MofNCompleteColumn(), TextColumn('rows'),
        TimeRemainingColumn(),
    )  # fmt: skip
    flushed = time.monotonic()
    try:
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task('', total=dataset.num_rows, completed=begin)
            for batch in make_loader(dataset, begin, cfg, args):
                batch = model.data_preprocessor(batch, True)
                samples = batch['data_samples']
                logits = model.compute_teacher_logits(batch['inputs'], samples)
                writer.append(logits, [sample.view_crc for sample in samples])
                progress.advance(bar, len(samples))
                if time.monotonic() - flushed > FLUSH_SECONDS:
                    writer.flush()
                    flushed = time.monotonic()
    finally:
        writer.flush()
    return writer.rows_done - begin


def main() -> int:
    args = parse_args()
    console = Console()
    try:
        cfg = prepare_config(args)
        check(cfg, args)
        folder = args.out or cfg.model.teacher_logits
        with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
            model = build_model(cfg)
            dataset = DATASETS.build(cfg.train_dataloader.dataset)
            dataset.full_init()
            written = write_all(model, dataset, folder, cfg, args, console)
    except REFUSALS as error:
        print(f'cache_teacher_logits.py: error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('\nStopped. Go on with the same command.', file=sys.stderr)
        return 130
    size = sum(entry.stat().st_size for entry in os.scandir(folder))
    console.print(f'{folder}: {written} rows written, {size / 1e6:.1f} MB in all.', soft_wrap=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())

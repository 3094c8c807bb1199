"""What the two commands that write teacher logits share: options, checks, and the writing."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import MODELS, DefaultScope, Registry
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.utils.data import DataLoader

from mmkendall.class_names import class_names
from mmkendall.engine.checks.scopes import is_a, scope_of
from mmkendall.engine.command_line import add_common_options, prepare_config
from mmkendall.engine.distill_config import check_distill_config
from mmkendall.engine.errors import REFUSALS, ConfigError
from mmkendall.models import LogitDistill
from mmkendall.models.algorithms.teacher_logits import DTYPES, TeacherLogitsWriter, is_topk
from mmkendall.registry import DATASETS

if TYPE_CHECKING:
    from mmkendall.datasets import NumberedRows

# A stopped build loses at most this much work.
FLUSH_SECONDS = 10


def add_build_options(parser: argparse.ArgumentParser, dtype: str) -> None:
    """Adds the options of both commands.

    Args:
        parser: of the command.
        dtype: the default type of the stored logits.
    """
    parser.add_argument('--out', help='folder to write; default: model.teacher_logits')
    parser.add_argument('--dtype', choices=DTYPES, default=dtype, help=f'default: {dtype}')
    parser.add_argument(
        '--topk',
        type=int,
        metavar='K',
        help='keep only the K highest logits of each row, and which classes they are of; the '
        'losses read minus infinity for the others; default: keep all',
    )
    parser.add_argument(
        '--batch-size', type=int, help="images at a time; default: the training dataloader's"
    )
    parser.add_argument(
        '--workers', type=int, help="loading processes; default: the training dataloader's"
    )
    add_common_options(parser)


def check_build(cfg: Config, args: argparse.Namespace) -> None:
    """Raises ConfigError before any work starts, for what both commands need."""
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
    if not is_kind(dataset.get('type'), DATASETS, DATASETS.get('NumberedRows'), cfg):
        raise ConfigError(
            "train_dataloader.dataset.type must be 'mmkendall.FixedViews' or one of the datasets "
            'in memory, so that every image comes again as it was, got '
            f'{dataset.get("type")!r}'
        )
    check_distill_config(cfg)


def is_kind(kind: str | type | None, registry: Registry, wanted: type, cfg: Config) -> bool:
    """Whether a ``type`` of a config, by any of its names or as a class, is of a class."""
    with scope_of(cfg):
        return is_a({'type': kind}, wanted, registry)


def run_build(
    tool: str,
    args: argparse.Namespace,
    check: Callable[[Config, argparse.Namespace], None],
    build: Callable[[Config, str, Console], int],
) -> int:
    """Runs one of the commands, and returns its exit status.

    Args:
        tool: its name, for messages.
        args: its options.
        check: raises ConfigError before any work starts.
        build: writes what is missing into a folder, and returns how many rows that was.
    """
    console = Console()
    try:
        cfg = prepare_config(args)
        check(cfg, args)
        folder = args.out or cfg.model.teacher_logits
        with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
            written = build(cfg, folder, console)
    except REFUSALS as error:
        print(f'{tool}.py: error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('\nStopped. Go on with the same command.', file=sys.stderr)
        return 130
    size = sum(entry.stat().st_size for entry in os.scandir(folder))
    console.print(f'{folder}: {written} rows written, {size / 1e6:.1f} MB in all.', soft_wrap=True)
    return 0


def training_set(cfg: Config) -> NumberedRows:
    """The training set of a config, loaded, with the images that its options leave out."""
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    dataset.full_init()
    return dataset.all_rows()


def write_rows(
    folder: str,
    dataset: NumberedRows,
    about: dict,
    logits_of: Callable[[dict], tuple[Tensor, list]],
    cfg: Config,
    args: argparse.Namespace,
    console: Console,
) -> int:
    """Writes the rows that are missing, view by view, and returns how many that was.

    Args:
        folder: where they go.
        dataset: the training set.
        about: what the logits are of, beside the images: classes, teachers and their classes.
        logits_of: gives a batch's logits (N, teachers, classes), and its data samples.
        cfg: the config of the training.
        args: the options of the command.
        console: for the progress.
    """
    if args.topk is not None and not is_topk(args.topk, about['classes']):
        raise ConfigError(
            f'--topk must be 1 at least and below the {about["classes"]} classes, got '
            f'{args.topk}: leave it out to keep all'
        )
    made_of = {
        'rows': dataset.num_rows,
        'samples': len(dataset),
        'views': dataset.num_views,
        'seed': dataset.seed,
        'dtype': args.dtype,
        'dataset_classes': class_names(dataset.metainfo),
        **about,
        **({} if args.topk is None else {'topk': args.topk}),
    }
    writer = TeacherLogitsWriter(folder, made_of)
    try:
        return _append_all(writer, dataset, logits_of, cfg, args, console)
    finally:
        writer.close()


def _append_all(
    writer: TeacherLogitsWriter,
    dataset: NumberedRows,
    logits_of: Callable[[dict], tuple[Tensor, list]],
    cfg: Config,
    args: argparse.Namespace,
    console: Console,
) -> int:
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
            for batch in _make_loader(dataset, begin, cfg, args):
                logits, samples = logits_of(batch)
                writer.append(logits, [sample.view_crc for sample in samples])
                progress.advance(bar, len(samples))
                if time.monotonic() - flushed > FLUSH_SECONDS:
                    writer.flush()
                    flushed = time.monotonic()
    finally:
        writer.flush()
    return writer.rows_done - begin


def _make_loader(
    dataset: NumberedRows, first: int, cfg: Config, args: argparse.Namespace
) -> DataLoader:
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

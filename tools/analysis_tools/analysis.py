"""What the analyses of the losses share: the figures, the tables, and where they come from."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from mmengine.config import Config

from mmkendall.engine.command_line import add_common_options, prepare_config
from mmkendall.engine.distill_config import (
    ConfigError,
    add_rank_loss,
    add_rank_option,
    check_distill_config,
    parse_rank_options,
)
from mmkendall.engine.errors import REFUSALS
from mmkendall.studies.results import write_csv
from mmkendall.studies.worker import environment

STYLE = {
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.grid': True,
    'grid.alpha': 0.3,
    'font.size': 9,
    # Letters as letters: a tenth of the size.
    'svg.fonttype': 'none',
    # The same file from the same numbers.
    'svg.hashsalt': 'mmkendall',
}


def parser_of_config(description: str) -> argparse.ArgumentParser:
    """A parser of what every analysis of a training takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='a file, or package::path: a distillation of a classifier')
    add_rank_option(parser)
    add_out(parser)
    add_common_options(parser)
    return parser


def add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--out', type=Path, default=Path('work_dirs/analyses'), help='for tables and figures'
    )


@contextlib.contextmanager
def style() -> Iterator[None]:
    """matplotlib's settings for the figures."""
    with matplotlib.rc_context(STYLE):
        yield


def save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={'Date': None} if path.suffix == '.svg' else None)
    print(f'Wrote {path}')


def distillation(args: argparse.Namespace) -> Config:
    """The checked config that the options name, of a distillation.

    Raises:
        ConfigError: it is none, or can't be trained.
    """
    if args.launcher != 'none':
        raise ConfigError(f'an analysis runs in one process, got --launcher {args.launcher}')
    if args.work_dir is None:
        # Not that of the training itself, whose checkpoints lie there.
        args.work_dir = str(args.out / 'runs' / Path(args.config.rpartition('::')[2]).stem)
    cfg = prepare_config(args)
    model = cfg.get('model') or {}
    if model.get('distiller') is None:
        raise ConfigError(
            'an analysis needs a distillation config, one with model.distiller; this config '
            f'trains a {model.get("type")}'
        )
    if args.rank_loss is not None:
        add_rank_loss(cfg, parse_rank_options(args.rank_loss))
    check_distill_config(cfg)
    return cfg


def save_table(rows: Sequence[dict[str, Any]], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv(path, rows)
    print(f'Wrote {path}')


def run(name: str, analyse: Callable[[], None]) -> int:
    """Runs an analysis; the exit status, with one sentence for what cannot be."""
    try:
        analyse()
    except REFUSALS as error:
        print(f'{name}: error: {error}', file=sys.stderr)
        return 2
    return 0


def told() -> str:
    """Where and with what it was computed, in a line."""
    found = environment()
    return (
        f'mmkendall {found["mmkendall"]}, torch {found["torch"]}, Python {found["python"]}; '
        f'{found["device"]}, {found["processor"]}'
    )

"""Write a table of scores, of a teacher of any kind, as the teacher logits of a training.

    python tools/dataset_converters/scores_to_teacher_logits.py CONFIG scores.csv --kind scores
    python tools/train.py CONFIG

CONFIG trains a mmkendall.LogitDistill without a teacher on a mmkendall.FixedViews:

    model = dict(
        type='mmkendall.LogitDistill', teacher=None, teacher_ckpt=None,
        teacher_logits='data/teacher_logits')
    train_dataloader = dict(
        dataset=dict(
            _delete_=True, type='mmkendall.FixedViews', num_views=4, seed=0, dataset=dict(...)),
        sampler=dict(type='mmkendall.ViewSampler'))

TABLE is a .csv with a header, or a .parquet, with a column of sample ids and a column for each
class by its name, in any order; or a .npy (samples, classes) in the order of the training set. A
sample's id is its place in the training set, from 0, or with --ids path the path of its image from
the folder of the images on. A .parquet needs pyarrow, the extra parquet. The scores of a sample
stand for all its views. The images are read once, so that a training notices when they change.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence

from mmkendall import compat

compat.apply()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from mmengine.config import Config  # noqa: E402
from rich.console import Console  # noqa: E402
from torch import Tensor  # noqa: E402

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
from mmkendall.models.algorithms.teacher_logits import (  # noqa: E402
    KINDS,
    WITH_ZEROS,
    ScoreTable,
    as_logits,
    read_table,
    table_fingerprint,
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config', help='a file, or package::path')
    parser.add_argument('table', help='the scores, .csv, .parquet or .npy')
    parser.add_argument(
        '--kind',
        choices=KINDS,
        required=True,
        help='scores: higher is likelier (logits, margins, cosines), kept as they are; '
        'probabilities: their logarithms; votes: counts, the logarithms of their shares; '
        'ranking: the lowest number is the best class, the sign is changed',
    )
    zeros = parser.add_mutually_exclusive_group()
    zeros.add_argument(
        '--floor',
        type=float,
        metavar='P',
        help='probabilities and shares of votes below P are raised to it before the logarithm',
    )
    zeros.add_argument(
        '--keep-zeros',
        action='store_true',
        help='probabilities and votes of 0 become minus infinity: the classes are last and tied',
    )
    parser.add_argument(
        '--ids',
        choices=('index', 'path'),
        default='index',
        help="what a sample's id in the table is: its place in the training set, from 0, or the "
        'path of its image from the folder of the images on; default: index',
    )
    parser.add_argument(
        '--id-column',
        default='id',
        help="the column of sample ids in a .csv or .parquet, pandas' index included; default: id",
    )
    add_build_options(parser, 'float32')
    return parser.parse_args()


def check(cfg: Config, args: argparse.Namespace) -> None:
    """Raises ConfigError before any work starts."""
    check_build(cfg, args)
    if cfg.model.get('teacher') is not None:
        raise ConfigError(
            'model.teacher must be None, as the table takes its place, got a network: set '
            'model.teacher=None and model.teacher_ckpt=None'
        )
    if args.floor is not None and not (math.isfinite(args.floor) and 0 < args.floor < 1):
        raise ConfigError(f'--floor must be a share between 0 and 1, got {args.floor}')
    if args.kind not in WITH_ZEROS and (args.floor is not None or args.keep_zeros):
        option = '--keep-zeros' if args.keep_zeros else '--floor'
        raise ConfigError(
            f'{option} is for the zeros of {" and ".join(WITH_ZEROS)}, got --kind {args.kind}: '
            'leave it out'
        )


def sample_ids(dataset: FixedViews, kind: str) -> list[str]:
    """The id of every sample of the training set, in its order.

    Raises:
        ConfigError: ids are paths, and the samples have none.
    """
    if kind == 'index':
        return [str(index) for index in range(len(dataset))]
    prefix = getattr(dataset.dataset, 'data_prefix', None) or {}
    folder = f'{prefix["img_path"].rstrip("/")}/' if prefix.get('img_path') else ''
    ids = []
    for index in range(len(dataset)):
        path = dataset.get_data_info(index).get('img_path')
        if not isinstance(path, str):
            raise ConfigError(
                f'--ids path needs a training set whose samples have an img_path, and sample '
                f'{index} of {type(dataset.dataset).__name__} has none: take --ids index'
            )
        ids.append(path.removeprefix(folder))
    return ids


def label_share(
    dataset: FixedViews, table: ScoreTable, rows: Sequence[int], columns: np.ndarray, kind: str
) -> float | None:
    """The share of samples whose highest class is their label; None without such labels."""
    labels = [dataset.get_data_info(index).get('gt_label') for index in range(len(dataset))]
    if not all(isinstance(label, (int, np.integer)) for label in labels):
        return None
    right = 0
    for first in range(0, len(labels), 4096):
        part = slice(first, first + 4096)
        logits = as_logits(table.scores[rows[part]], kind)[:, columns]
        right += int((logits.argmax(axis=1) == np.array(labels[part])).sum())
    return right / len(labels)


def write_all(
    dataset: FixedViews, table: ScoreTable, rows: np.ndarray, columns: np.ndarray, folder: str,
    cfg: Config, args: argparse.Namespace, console: Console,
) -> int:  # fmt: skip
    """Writes what is missing; returns how many rows that was."""
    options = {'kind': args.kind, 'floor': args.floor, 'ids': args.ids}
    about = {
        'classes': len(columns),
        'teachers': table_fingerprint(args.table, options),
        'teacher_classes': [class_names(dataset.metainfo) if table.names is not None else None],
    }

    def logits_of(batch: dict) -> tuple[Tensor, list]:
        samples = batch['data_samples']
        places = rows[[sample.view_row % len(dataset) for sample in samples]]
        logits = as_logits(table.scores[places], args.kind, args.floor)[:, columns]
        return torch.from_numpy(np.ascontiguousarray(logits))[:, None], samples

    return write_rows(folder, dataset, about, logits_of, cfg, args, console)


def main() -> int:
    args = parse_args()

    def build(cfg: Config, folder: str, console: Console) -> int:
        table = read_table(args.table, args.id_column)
        if table.ids is None and args.ids != 'index':
            raise ConfigError(
                f'--ids {args.ids} needs a .csv or .parquet with a column of ids, got '
                f'{table.source}'
            )
        table.check(args.kind, args.floor, args.keep_zeros, args.dtype)
        dataset = training_set(cfg)
        columns = table.columns_of(class_names(dataset.metainfo))
        rows = table.rows_of(sample_ids(dataset, args.ids))
        share = label_share(dataset, table, rows, columns, args.kind)
        if share is not None:
            console.print(
                f'{table.source}: the highest class is the label of {share:.1%} of '
                f'{len(rows)} samples.',
                soft_wrap=True,
            )
        return write_all(dataset, table, rows, columns, folder, cfg, args, console)

    return run_build('scores_to_teacher_logits', args, check, build)


if __name__ == '__main__':
    sys.exit(main())

"""Test a checkpoint of a config, with OpenMMLab's options.

python tools/test.py CONFIG CHECKPOINT --out results.pkl
"""

from __future__ import annotations

import argparse
import os.path as osp
import sys

from mmkendall import compat

compat.apply()

import mmengine  # noqa: E402
from mmengine.evaluator import DumpResults  # noqa: E402
from mmengine.registry import RUNNERS  # noqa: E402
from mmengine.runner import Runner  # noqa: E402

from mmkendall.engine.built_model import check_built_model  # noqa: E402
from mmkendall.engine.command_line import (  # noqa: E402
    add_common_options,
    leave_process_group,
    prepare_config,
)
from mmkendall.engine.distill_config import ConfigError  # noqa: E402
from mmkendall.models.algorithms.loading import CheckpointError  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Test a model')
    parser.add_argument('config', help='a file, or package::path')
    parser.add_argument('checkpoint', help='checkpoint file or URL')
    parser.add_argument('--out', help='write the results to this .pkl, .json or .yaml file')
    parser.add_argument(
        '--out-item',
        choices=['metrics', 'pred'],
        help='what to write: the metrics, or the predictions of every sample (.pkl alone). '
        'Defaults to pred for a .pkl, else to metrics',
    )
    add_common_options(parser)
    return parser.parse_args()


def check_options(args: argparse.Namespace) -> None:
    """Raises ConfigError before any work starts."""
    if '://' not in args.checkpoint and not osp.isfile(args.checkpoint):
        raise ConfigError(f'checkpoint {args.checkpoint!r} does not exist')
    if args.out is None:
        return
    if not args.out.endswith(('.pkl', '.pickle', '.json', '.yaml', '.yml')):
        raise ConfigError(f'--out must end in .pkl, .json or .yaml, got {args.out!r}')
    pickled = args.out.endswith(('.pkl', '.pickle'))
    args.out_item = args.out_item or ('pred' if pickled else 'metrics')
    if args.out_item == 'pred' and not pickled:
        raise ConfigError(f'predictions can only be written to a .pkl file, got {args.out!r}')


def main() -> int:
    args = parse_args()
    try:
        check_options(args)
        cfg = prepare_config(args)
    except ConfigError as error:
        print(f'test.py: error: {error}', file=sys.stderr)
        return 2
    cfg.load_from = args.checkpoint
    try:
        runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
        check_built_model(runner, complete=True)
        if args.out and args.out_item == 'pred':
            runner.test_evaluator.metrics.append(DumpResults(out_file_path=args.out))
        metrics = runner.test()
    except (ConfigError, CheckpointError) as error:
        print(f'test.py: error: {error}', file=sys.stderr)
        return 2
    if args.out and args.out_item == 'metrics':
        mmengine.dump(metrics, args.out)
    del runner
    leave_process_group()
    return 0


if __name__ == '__main__':
    sys.exit(main())

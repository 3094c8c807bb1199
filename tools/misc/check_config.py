"""Check a config without training it: its model is built, and one batch goes through it.

    python tools/misc/check_config.py CONFIG
    python tools/misc/check_config.py CONFIG --rank-loss steepness=10

What is wrong is said in one sentence, as tools/train.py would; what may not be meant is a warning.
Nothing is written.
"""

from __future__ import annotations

import argparse
import sys
import tempfile

from mmkendall import compat

compat.apply()

from mmkendall.engine.command_line import add_common_options, prepare_config  # noqa: E402
from mmkendall.engine.distill_config import (  # noqa: E402
    add_rank_loss,
    add_rank_option,
    build_runner,
    check_distill_config,
    config_first,
    parse_rank_options,
    train,
)
from mmkendall.engine.errors import REFUSALS  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config', help='a file, or package::path')
    add_rank_option(parser)
    parser.add_argument(
        '--no-data',
        action='store_true',
        help='stop before the data sets: where they are not, or not yet',
    )
    add_common_options(parser)
    return parser.parse_args(config_first(sys.argv[1:]))


def main() -> int:
    args = parse_args()
    try:
        cfg = prepare_config(args)
        if args.rank_loss is not None:
            add_rank_loss(cfg, parse_rank_options(args.rank_loss))
        check_distill_config(cfg)
        with tempfile.TemporaryDirectory() as folder:
            cfg.work_dir = folder
            cfg.log_level = 'WARNING'
            if cfg.get('visualizer') is not None:
                cfg.visualizer.vis_backends = None
            runner = build_runner(cfg)
            if not args.no_data:
                train(runner, stop_after_first=True)
    except REFUSALS as error:
        print(f'check_config.py: error: {error}', file=sys.stderr)
        return 2
    seen = 'its model was built' if args.no_data else 'its first batch went through its model'
    print(f'{args.config}: {seen}, and nothing was found that keeps it from training.')
    return 0


if __name__ == '__main__':
    sys.exit(main())

"""Train a config, with or without distillation, with OpenMMLab's options.

    python tools/train.py CONFIG
    python tools/train.py CONFIG --rank-loss steepness=10,loss_weight=0.9

CONFIG is a file or ``package::path``, of ours (``mmkendall::...``) or of mmrazor
(``mmrazor::...``).
"""

from __future__ import annotations

import argparse
import sys

from mmkendall import compat

compat.apply()

from mmengine.config import Config  # noqa: E402
from mmengine.device import get_device  # noqa: E402
from mmengine.logging import print_log  # noqa: E402
from mmengine.optim import AmpOptimWrapper, OptimWrapper  # noqa: E402
from mmengine.registry import OPTIM_WRAPPERS  # noqa: E402

from mmkendall import __version__  # noqa: E402
from mmkendall.engine.checks.scopes import resolve, scope_of  # noqa: E402
from mmkendall.engine.command_line import (  # noqa: E402
    add_common_options,
    leave_process_group,
    prepare_config,
)
from mmkendall.engine.distill_config import (  # noqa: E402
    ConfigError,
    add_rank_loss,
    add_rank_option,
    build_runner,
    check_distill_config,
    config_first,
    parse_rank_options,
    train,
)
from mmkendall.engine.errors import REFUSALS  # noqa: E402
from mmkendall.engine.protected_run import (  # noqa: E402
    add_guards,
    choose_checkpoint,
    end_run,
)
from mmkendall.engine.stop_request import terminable  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train a model')
    parser.add_argument('config', help='a file, or package::path')
    add_rank_option(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='resume from a checkpoint, or from the newest whole one in the work directory',
    )
    parser.add_argument('--amp', action='store_true', help='train in automatic mixed precision')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate by the real batch size over the config's base_batch_size",
    )
    add_common_options(parser)
    return parser.parse_args(config_first(sys.argv[1:]))


def enable_amp(cfg: Config) -> None:
    """Turns the optimizer wrappers of a config into AmpOptimWrapper."""
    if get_device() == 'cpu':
        raise ConfigError('--amp needs an accelerator, and none was found: train without it')
    separate = cfg.optim_wrapper.get('constructor') and 'architecture' in cfg.optim_wrapper
    wrapper = cfg.optim_wrapper.architecture if separate else cfg.optim_wrapper
    kind = wrapper.get('type', OptimWrapper)
    with scope_of(cfg):
        found = resolve(kind, OPTIM_WRAPPERS, wrapper.get('_scope_'))
    if found not in (OptimWrapper, AmpOptimWrapper):
        raise ConfigError(f'--amp works with an OptimWrapper, and the config has a {kind}')
    wrapper.type = 'AmpOptimWrapper'
    wrapper.setdefault('loss_scale', 'dynamic')


def apply_options(cfg: Config, args: argparse.Namespace) -> None:
    """Puts the options of training into the config, and checks the outcome."""
    if args.rank_loss is not None:
        added = add_rank_loss(cfg, parse_rank_options(args.rank_loss))
        mappings = cfg.model.distiller.loss_forward_mappings
        for name, entry in added.items():
            print_log(f'--rank-loss added distill_losses.{name} = {entry}', 'current')
            print_log(f'  with the records {dict(mappings[name])}', 'current')
    if args.amp:
        enable_amp(cfg)
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise ConfigError('--auto-scale-lr needs auto_scale_lr.base_batch_size in the config')
        cfg.auto_scale_lr.enable = True
    check_distill_config(cfg)
    add_guards(cfg)
    choose_checkpoint(cfg, args.resume)


def main() -> int:
    args = parse_args()
    try:
        cfg = prepare_config(args)
        apply_options(cfg, args)
    except REFUSALS as error:
        print(f'train.py: error: {error}', file=sys.stderr)
        return 2
    try:
        with terminable():
            runner = build_runner(cfg)
            # mmengine logs the versions of torch and of itself.
            runner.logger.info(f'mmkendall: {__version__}')
            train(runner)
    except BaseException as error:
        return end_run(error, cfg, args)
    del runner
    leave_process_group()
    return 0


if __name__ == '__main__':
    sys.exit(main())

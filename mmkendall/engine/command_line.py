"""What tools/train.py and tools/test.py share: options, config, launcher."""

from __future__ import annotations

import argparse
import gc
import os
import os.path as osp

import torch.distributed as dist
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.logging import print_log

from mmkendall.engine.read_config import check_launcher, load_config, override


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that OpenMMLab's train.py and test.py both have."""
    parser.add_argument('--work-dir', help='folder for logs, checkpoints and results')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='override settings of the config: key=value key.sub=value; a list is '
        'key="[a,b]" or key=a,b, a tuple of tuples key="[(a,b),(c,d)]", without blanks',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher; dist_train.sh and slurm_train.sh set it',
    )
    # torchrun sets LOCAL_RANK; older launchers pass either spelling.
    parser.add_argument(
        '--local-rank', '--local_rank', type=int, default=0, help='set by launchers'
    )


def prepare_config(args: argparse.Namespace) -> Config:
    """The config that the options ask for.

    Args:
        args: parsed options: ``config`` and those of :func:`add_common_options`.

    Raises:
        ConfigError: there is no such config, an option does not fit into it, or the launcher that
            is named did not start this process.
    """
    check_launcher(args.launcher)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = load_config(args.config)
    cfg.launcher = args.launcher
    if args.cfg_options is not None:
        override(cfg, args.cfg_options)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = osp.join('work_dirs', osp.splitext(osp.basename(args.config))[0])
    dist_cfg = cfg.get('env_cfg', {}).get('dist_cfg')
    if args.launcher != 'none' and get_device() == 'cpu' and dist_cfg:
        if dist_cfg.get('backend', 'nccl') != 'gloo':
            print_log('No accelerator found: the processes talk through gloo.', 'current')
        dist_cfg.backend = 'gloo'
    return cfg


def leave_process_group() -> None:
    """Waits for the other processes, if there are any, and closes the connections to them.

    What holds a DistributedDataParallel model must be gone before. A model that is the last to
    hold the connections waits, as it is freed, for gloo's threads with Python's lock in hand, and
    they may wait for that lock (https://github.com/pytorch/pytorch/issues/56297): the process
    hangs after all its work is done, or aborts where the interpreter is already ending.
    """
    if dist.is_available() and dist.is_initialized():
        dist.barrier()
        gc.collect()  # A runner is in cycles with its loops and hooks.
        dist.destroy_process_group()

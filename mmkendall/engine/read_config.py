"""Reading a config from a file or from a package."""

from __future__ import annotations

import os
import os.path as osp
from importlib.util import find_spec

from mmengine.config import Config

from mmkendall.engine.errors import ConfigError

# Scopes whose packages cannot be imported without mmcv's compiled operators.
NEED_OPERATORS = ('mmdet', 'mmseg')

# What each launcher puts into the environment of its processes.
LAUNCHED = {
    'pytorch': ('RANK', 'torchrun; tools/dist_train.sh and tools/dist_test.sh call it'),
    'slurm': ('SLURM_PROCID', 'srun; tools/slurm_train.sh and tools/slurm_test.sh call it'),
    'mpi': ('OMPI_COMM_WORLD_LOCAL_RANK', 'mpirun'),
}


def load_config(path: str) -> Config:
    """Reads a config from a path or from ``package::path``.

    Args:
        path: a file, or a config of an installed package, such as
            ``mmrazor::distill/mmcls/kd/kd_logits_resnet34_resnet18_8xb32_in1k.py``.

    Raises:
        ConfigError: there is no such package or file, it cannot be read, or what it inherits from
            is not there.
    """
    name = path
    if '::' in path:
        try:
            path, _ = Config._get_cfg_path(path, '')
        except (AssertionError, ImportError, FileNotFoundError, ValueError) as error:
            raise ConfigError(f'config {path!r}: {error}') from error
    if not osp.isfile(path):
        raise ConfigError(f'config {name!r} does not exist')
    try:
        cfg = Config.fromfile(path)
    except Exception as error:
        # A config in Python may raise anything.
        kind = type(error).__name__
        text = ' '.join(str(error).split())
        raise ConfigError(f'config {name!r} cannot be read: {kind}: {text}') from error
    if cfg.get('default_scope') in NEED_OPERATORS and find_spec('mmcv._ext') is None:
        raise ConfigError(
            f'config {name!r} is of {cfg.default_scope}, whose heads need an mmcv with compiled '
            'operators; mmcv-lite has none. Remove it and install mmcv 2.1.0: docs/detection.md'
        )
    return cfg


def override(cfg: Config, options: dict) -> None:
    """Puts the settings of ``--cfg-options`` into a config.

    Raises:
        ConfigError: a setting does not fit into the config.
    """
    for key, value in options.items():
        try:
            cfg.merge_from_dict({key: value})
        except (KeyError, TypeError, IndexError, AttributeError, AssertionError) as error:
            reason = error.args[0] if error.args else type(error).__name__
            raise ConfigError(
                f'--cfg-options {key}={value!r} does not fit into the config: {reason}'
            ) from error


def check_launcher(launcher: str) -> None:
    """Raises ConfigError if the launcher that an option names did not start this process."""
    variable, how = LAUNCHED.get(launcher, (None, ''))
    if variable is not None and variable not in os.environ:
        raise ConfigError(
            f'--launcher {launcher} is for a process that was started by {how}: '
            f'the environment has no {variable}. Start it that way, or leave --launcher out to '
            'train in one process'
        )

"""What tools/train.py does so that a run can be stopped at any time and goes on."""

from __future__ import annotations

import argparse
import logging
import os
import os.path as osp
import shlex
import signal
import sys

import torch.distributed as dist
from mmengine.config import Config, ConfigDict
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.registry import HOOKS

from mmkendall.engine.checks.scopes import resolve
from mmkendall.engine.errors import REFUSALS, ConfigError, is_full_disk
from mmkendall.engine.hooks import ExactResumeHook, FiniteLossHook, NonFiniteError
from mmkendall.engine.stop_request import Terminated, stop_is_requested
from mmkendall.engine.whole_checkpoints import (
    LAST,
    checkpoint_fault,
    newest_whole_checkpoint,
)
from mmkendall.whole_files import write_atomically


def add_guards(cfg: Config) -> None:
    """Gives any config our hooks that keep a training from being lost, in place.

    mmengine's own ``CheckpointHook``, also where it is there by default, becomes a
    ``mmkendall.AtomicCheckpointHook`` with the same options; other classes stay. A
    ``FiniteLossHook`` and an ``ExactResumeHook`` are added where the config has none.

    Args:
        cfg: a config to train.
    """
    hooks = cfg.get('default_hooks')
    if hooks is None:
        cfg.default_hooks = hooks = ConfigDict()
    if 'checkpoint' not in hooks:  # What mmengine registers by itself.
        hooks.checkpoint = ConfigDict(type='CheckpointHook', interval=1)
    entries = [*hooks.values(), *(cfg.get('custom_hooks') or ())]
    scope = cfg.get('default_scope')
    kinds = [_hook_class(entry, scope) for entry in entries]
    for entry, kind in zip(entries, kinds, strict=True):
        if kind is CheckpointHook and isinstance(entry, dict):
            entry.type = 'mmkendall.AtomicCheckpointHook'
            entry.pop('_scope_', None)
    for name, wanted in (('finite_loss', FiniteLossHook), ('exact_resume', ExactResumeHook)):
        if not any(isinstance(kind, type) and issubclass(kind, wanted) for kind in kinds):
            hooks[name] = ConfigDict(type=f'mmkendall.{wanted.__name__}')


def _hook_class(entry, scope: str | None) -> type | None:
    """The class of a hook in a config, however it is written; None if there is none."""
    if not isinstance(entry, dict):
        return type(entry)
    try:
        return resolve(entry.get('type'), HOOKS, entry.get('_scope_', scope))
    except (ImportError, KeyError):  # The runner says it better.
        return None


def choose_checkpoint(cfg: Config, resume: str | None) -> None:
    """Settles what a run resumes from, before anything is built.

    Args:
        cfg: a config to train. ``resume`` and ``load_from`` become what is chosen.
        resume: a path, ``'auto'`` for the newest whole checkpoint of the work directory, or None
            for what the config says.

    Raises:
        ConfigError: the path is not a whole checkpoint, or the work directory has checkpoints
            and none of them is whole.
    """
    if resume is None and cfg.get('resume'):
        resume = cfg.get('load_from') or 'auto'
    if resume is None:
        return
    if resume != 'auto':
        if '://' not in resume:
            fault = checkpoint_fault(osp.expanduser(resume))
            if fault is not None:
                raise ConfigError(
                    f'--resume {resume}: {fault}. --resume alone takes the newest whole '
                    'checkpoint of the work directory'
                )
        cfg.resume, cfg.load_from = True, resume
        return
    path, skipped = newest_whole_checkpoint(cfg.work_dir)
    if path is None and skipped:
        raise ConfigError(
            f'--resume found no whole checkpoint in {cfg.work_dir} ({"; ".join(skipped)}). '
            'Remove them, and leave --resume out, to start from the beginning'
        )
    if path is None:
        _tell(
            f'--resume: there is no checkpoint in {cfg.work_dir}, so the training starts from the '
            'beginning',
            logging.WARNING,
        )
        cfg.resume = False
        return
    over = f', not from {"; ".join(skipped)}' if skipped else ''
    _tell(f'--resume: goes on from {path}{over}', logging.WARNING if skipped else logging.INFO)
    # mmengine reads the name there. In the config, that is kept beside the checkpoints, it would
    # be what a later training with that config resumes from.
    if _is_first_process():
        write_atomically(osp.join(cfg.work_dir, LAST), osp.abspath(path).encode())
    cfg.resume, cfg.load_from = True, None


def _is_first_process() -> bool:
    """Whether this is the first process of a launcher, before they are connected."""
    return os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0')) == '0'


def _tell(message: str, level: int) -> None:
    """Logs a line once, though each process of a launcher comes here."""
    if _is_first_process():
        print_log(message, 'current', level)


def end_run(error: BaseException, cfg: Config, args: argparse.Namespace) -> int:
    """Says in one last line why a run ended and how it goes on.

    Args:
        error: what ended it.
        cfg: its config.
        args: its parsed options.

    Returns:
        The exit status: 143 after SIGTERM, 130 after Ctrl-C, 2 for an input that cannot be right,
        1 for a loss or weights that are not finite and for a full disk.

    Raises:
        BaseException: any other error.
    """
    # What is said takes a moment; a launcher ends this process as soon as another has ended.
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        return _end_run(error, cfg, args)
    finally:
        signal.signal(signal.SIGTERM, before)


def _end_run(error: BaseException, cfg: Config, args: argparse.Namespace) -> int:
    if isinstance(error, REFUSALS):
        status, why = 2, str(error)
    # Slurm ends the workers too, and another process may have been faster: any error is of it.
    elif isinstance(error, Terminated) or stop_is_requested():
        status, why = 143, 'stopped by SIGTERM'
        if not isinstance(error, Terminated):
            why += f', which ended in {type(error).__name__}: {error}'
    elif isinstance(error, KeyboardInterrupt):
        status, why = 130, 'stopped by Ctrl-C'
    elif isinstance(error, NonFiniteError):
        status, why = 1, str(error)
    elif is_full_disk(error):
        status, why = 1, f'the disk is full ({error.strerror}: {error.filename or cfg.work_dir})'
    else:
        raise error
    is_first = not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0
    if is_first or status == 1:
        label = 'train.py: error: ' if status in (1, 2) else 'train.py: '
        print(f'\n{label}{why}{"" if status == 2 else _outlook(cfg, args)}', file=sys.stderr)
    if not is_first or (dist.is_available() and dist.is_initialized()):
        # Other processes may be waiting for this one, and gloo's threads for Python's lock.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def _outlook(cfg: Config, args: argparse.Namespace) -> str:
    """What is kept of a run that ended, and the command that goes on."""
    path, skipped = newest_whole_checkpoint(cfg.work_dir)
    over = f' ({"; ".join(skipped)})' if skipped else ''
    if path is None:
        command = resume_command(cfg, args, resume=args.resume)
        return f'. No checkpoint was saved yet{over}: start again with\n{command}'
    command = resume_command(cfg, args, resume='auto')
    return f'. The last whole checkpoint is {path}{over}: go on with\n{command}'


def resume_command(cfg: Config, args: argparse.Namespace, resume: str | None) -> str:
    """The command line of this run, with all its options, that resumes it.

    Args:
        cfg: its config.
        args: its parsed options.
        resume: what ``--resume`` is: a path, ``'auto'``, or None for none.
    """
    words = _without(sys.argv[1:], '--resume', args.resume)
    words = _without(words, '--local-rank', str(args.local_rank))
    words = _without(words, '--local_rank', str(args.local_rank))
    words.remove(args.config)
    if args.work_dir is None:
        words += ['--work-dir', cfg.work_dir]
    if resume is not None:
        words += ['--resume'] if resume == 'auto' else ['--resume', resume]
    folder = osp.dirname(sys.argv[0])
    seen = os.environ.get
    if args.launcher == 'pytorch':
        nodes = int(seen('GROUP_WORLD_SIZE', '1'))
        where = '' if nodes == 1 else f'NNODES={nodes} NODE_RANK={seen("GROUP_RANK")} '
        where += f'MASTER_ADDR={seen("MASTER_ADDR")} ' if nodes > 1 else ''
        start = [
            'bash',
            osp.join(folder, 'dist_train.sh'),
            args.config,
            seen('LOCAL_WORLD_SIZE', '1'),
        ]
        return where + shlex.join([*start, *_without(words, '--launcher', 'pytorch')])
    start = ['python', sys.argv[0], args.config]
    # The other launchers are programs of their own, whose options are not known here.
    launcher = {'slurm': 'srun ', 'mpi': 'mpirun '}.get(args.launcher, '')
    return launcher + shlex.join([*start, *words])


def _without(words: list[str], option: str, value: str | None) -> list[str]:
    """Words of a command line without an option, which argparse lets one abbreviate."""
    kept: list[str] = []
    was_option = False
    for word in words:
        start, equals, _ = word.partition('=')
        is_option = len(start) > len('--r') and option.startswith(start)
        if not is_option and not (was_option and word == value):
            kept.append(word)
        was_option = is_option and not equals
    return kept

"""Building a run and training it, with one sentence for what cannot be."""

from __future__ import annotations

import os.path as osp
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from mmengine.config import Config
from mmengine.model import is_model_wrapper
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmkendall.engine.checks.built_model import check_built_model
from mmkendall.engine.checks.explain import build_error
from mmkendall.engine.checks.first_iteration import FirstIteration
from mmkendall.engine.checks.recorders import check_sources
from mmkendall.engine.checks.teachers import check_loaded, check_not_random
from mmkendall.engine.errors import ConfigError, is_full_disk


@contextmanager
def explained(cfg: Config) -> Iterator[None]:
    """Turns what is raised while a config is built into a ConfigError of one sentence."""
    try:
        yield
    except Exception as error:
        if 'is not in the model' in str(error):
            check_sources(cfg)
        raise build_error(error, cfg) from error


def build_runner(cfg: Config, complete: bool | None = None) -> Runner:
    """Builds the runner of a config, and looks at the model that it has built.

    Args:
        cfg: a config that :func:`check_distill_config` let pass.
        complete: whether a checkpoint that is loaded must hold every tensor of the student, as
            for a test. Defaults to None: where the run is resumed.

    Raises:
        ConfigError: something could not be built: what, and why; a recorder's source is not in
            the model: which names are like it; a teacher is random; a setting of the student
            would be lost.
        CheckpointError: a teacher is not what its checkpoint holds.
    """
    with explained(cfg):
        runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    of_teachers = []
    if isinstance(cfg.model, Mapping) and cfg.model.get('distiller') is not None:
        check_not_random(cfg, model)
        of_teachers = check_loaded(cfg, model)
    check_built_model(runner, bool(cfg.get('resume')) if complete is None else complete)
    runner.register_hook(FirstIteration(of_teachers), priority='LOWEST')
    return runner


def train(runner: Runner, stop_after_first: bool = False) -> None:
    """Trains, and says in one sentence why the first iteration could not be.

    Args:
        runner: one of :func:`build_runner`.
        stop_after_first: whether to end once the first batch has gone through the model.

    Raises:
        ConfigError: what the run needs beside the model could not be built, or the first batch
            shows that it cannot work; unless it was only to be checked, the traceback is written
            beside the log.
    """
    first = next(hook for hook in runner.hooks if isinstance(hook, FirstIteration))
    first.stop = stop_after_first
    try:
        runner.train()
    except FirstIteration.Passed:
        return
    except Exception as error:
        # What our own code raises is said well already, and a full disk is no fault of the config.
        ours = type(error).__module__.startswith('mmkendall.')
        if first.passed or ours or is_full_disk(error):
            raise
        message = str(build_error(error, runner.cfg))
        if stop_after_first:
            raise ConfigError(message) from error
        path = osp.join(runner.log_dir, 'traceback.txt')
        with open(path, 'w') as file:
            file.write(traceback.format_exc())
        raise ConfigError(f'{message}; the traceback is in {path}') from error

"""Whether a run that is resumed is the one that was stopped."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator
from typing import Any

from mmengine.logging import print_log
from mmengine.optim import OptimWrapper, OptimWrapperDict, _ParamScheduler
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from mmkendall.engine.errors import ConfigError

# Keys in the meta of a checkpoint.
TERMS = 'distill_terms'
LENGTH = 'epoch_length'


def distill_terms(model: nn.Module) -> dict[str, dict[str, Any]]:
    """Type and options of each term that a model's distiller adds to the loss, by name.

    Args:
        model: any model; one without a distiller has none.
    """
    losses = getattr(getattr(model, 'distiller', None), 'distill_losses', None)
    return {
        name: {'type': type(loss).__name__, **_options(loss)}
        for name, loss in (losses.items() if isinstance(losses, nn.ModuleDict) else ())
    }


def check_resumable(checkpoint: dict, terms: dict[str, dict], needs_optimizer: bool) -> None:
    """Refuses a checkpoint that this run cannot go on from, and warns of other options.

    Args:
        checkpoint: what was loaded.
        terms: those of this run; see :func:`distill_terms`.
        needs_optimizer: whether the checkpoint holds the optimizer too.

    Raises:
        ConfigError: it is none of a training, or its terms have other names or types.
    """
    meta = checkpoint.get('meta') or {}
    missing = [
        key
        for key, there in (
            ('meta.epoch', 'epoch' in meta),
            ('meta.iter', 'iter' in meta),
            ('message_hub', 'message_hub' in checkpoint),
            ('optimizer', 'optimizer' in checkpoint or not needs_optimizer),
        )
        if not there
    ]
    if missing:
        raise ConfigError(
            f'a training cannot be resumed from this checkpoint, it has no {", ".join(missing)}: '
            'it holds weights for use, as the best checkpoint does. Resume from an epoch_N.pth or '
            'iter_N.pth, or start a training from its weights by load_from'
        )
    before = meta.get(TERMS)
    if before is None:  # Saved without this hook: the log knows the names.
        logged = checkpoint['message_hub'].get('log_scalars', {})
        start = 'train/distill.'
        before = {key[len(start) :]: {} for key in logged if key.startswith(start)}
        differ = before.keys() != terms.keys()
    else:
        differ = {name: term['type'] for name, term in before.items()} != {
            name: term['type'] for name, term in terms.items()
        }
    if differ:
        raise ConfigError(
            f'the run that was stopped had the distillation terms {_names(before)}, and this one '
            f'has {_names(terms)}: resume with the config and the options, such as --rank-loss, '
            'that it was started with'
        )
    for name, term in before.items():
        changed = [
            f'{option}={terms[name].get(option)!r} in place of {term.get(option)!r}'
            for option in (term.keys() | terms[name].keys() if term else ())
            if term.get(option) != terms[name].get(option)
        ]
        if changed:
            print_log(
                f'The term {name} of the resumed run has {", ".join(sorted(changed))}: if that is '
                'not meant, resume with the options that it was started with',
                'current',
                logging.WARNING,
            )


def epoch_length(loader: DataLoader) -> int | None:
    """Batches of an epoch, where the dataset knows its length."""
    try:
        return len(loader)
    except TypeError:
        return None


def check_epoch_length(before: int | None, runner: Runner) -> None:
    """Refuses a run whose schedules would go on at another place, as its epochs are longer or not.

    Args:
        before: iterations of an epoch of the run that was stopped, None if unknown.
        runner: this run, before the checkpoint's settings are in it.

    Raises:
        ConfigError: epochs of another length, and a schedule that counts iterations.
    """
    now = epoch_length(runner.train_loop.dataloader)
    if before is None or now is None or before == now:
        return
    differ = (
        f'the run that was stopped took {before} iterations for an epoch, and this one takes {now}'
    )
    by_iteration = {
        type(scheduler).__name__
        for schedulers in _built_schedules(runner).values()
        for scheduler in schedulers
        if not getattr(scheduler, 'by_epoch', True)
    }
    if by_iteration and not isinstance(runner.train_loop, IterBasedTrainLoop):
        raise ConfigError(
            f'{differ}: {", ".join(sorted(by_iteration))} counts iterations and would go on at '
            'another place. Resume with the batch size, the number of processes and the data that '
            'it was started with, or start a training from its weights by load_from'
        )
    print_log(
        f'{differ[0].upper()}{differ[1:]}: the batches from here on are others than in a run that '
        'was not interrupted',
        'current',
        logging.WARNING,
    )


def warn_of_kept_settings(checkpoint: dict, runner: Runner) -> None:
    """Warns of settings of this run's config that the checkpoint is about to replace.

    mmengine loads them with the state of the optimizer and of the schedules, so that a learning
    rate that was changed in the config has no effect on a run that is resumed.

    Args:
        checkpoint: what was loaded.
        runner: this run, before the checkpoint's settings are in it.
    """
    if not isinstance(runner, Runner):
        return
    replaced = [
        *_of_optimizers(runner.optim_wrapper, checkpoint.get('optimizer') or {}),
        *_of_schedules(_built_schedules(runner), checkpoint.get('param_schedulers') or []),
    ]
    if replaced:
        print_log(
            'The resumed run goes on with settings of its checkpoint, where the config has '
            f'others: {", ".join(dict.fromkeys(replaced))}. To train with those of the config, '
            'start a training from its weights by load_from',
            'current',
            logging.WARNING,
        )


def _of_optimizers(wrapper: Any, states: dict) -> Iterator[str]:
    if isinstance(wrapper, OptimWrapperDict):
        for name, each in wrapper.items():
            yield from _of_optimizers(each, states.get(name) or {})
        return
    if not isinstance(wrapper, OptimWrapper):
        return
    for now, before in zip(
        wrapper.optimizer.param_groups, states.get('param_groups') or [], strict=False
    ):
        for key in sorted(now.keys() & before.keys() - {'params'}):
            # A schedule changes the value, and keeps what it began with.
            kept = f'initial_{key}' if f'initial_{key}' in now.keys() & before.keys() else key
            if not key.startswith('initial_') and now[kept] != before[kept]:
                yield f'{key} {before[kept]} of the optimizer in place of {now[kept]}'


def _of_schedules(schedules: dict[str, list], states: Any) -> Iterator[str]:
    before = _by_name(states)
    for name, each in schedules.items():
        kept = before.get(name, [])
        if each and len(each) != len(kept):
            yield f'{len(kept)} schedules in place of {len(each)}'
        for scheduler, state in zip(each, kept, strict=False):
            kind = type(scheduler)
            options = {
                option
                for parent in kind.__mro__[:-1]
                for option in inspect.signature(parent.__init__).parameters
            }
            now = scheduler.state_dict()
            for key in sorted(options & now.keys() & state.keys() - {'last_step', 'verbose'}):
                if now[key] != state[key]:
                    yield f'{key} {state[key]} of {kind.__name__} in place of {now[key]}'


def _built_schedules(runner: Runner) -> dict[str, list]:
    """The schedules of a run by name; none that is still a config, as before the training."""
    return {
        name: each
        for name, each in _by_name(runner.param_schedulers).items()
        if isinstance(each, list) and all(isinstance(one, _ParamScheduler) for one in each)
    }


def _by_name(schedules: Any) -> dict[str, Any]:
    """Schedules, or their states, by the optimizer's name where there are several."""
    return schedules if isinstance(schedules, dict) else {'': schedules or []}


def _options(loss: nn.Module) -> dict[str, Any]:
    """The arguments that a loss and the losses inside it were built with, as far as they tell."""
    return {
        f'{part}.{name}' if part else name: value
        for part, module in loss.named_modules()
        for name in inspect.signature(type(module).__init__).parameters
        if isinstance(value := vars(module).get(name, ()), bool | int | float | str | None)
    }


def _names(terms: dict[str, dict]) -> str:
    named = [f'{name} ({term["type"]})' if term else name for name, term in terms.items()]
    return ', '.join(named) or 'none'

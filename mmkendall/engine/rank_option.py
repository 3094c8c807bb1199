"""The option ``--rank-loss``: the ranking loss beside the logit losses of a config."""

from __future__ import annotations

import argparse
import ast
import inspect
from itertools import pairwise
from typing import Any

from mmengine.config import Config, ConfigDict

from mmkendall.engine.checks.scopes import resolve, scope_of
from mmkendall.engine.errors import ConfigError
from mmkendall.models.distillers import build_rank_augmented_distiller
from mmkendall.models.losses import KendallRankLoss
from mmkendall.models.losses.logit_losses import (
    LOGIT_LOSSES,
    divides_by_classes,
    find_logit_losses,
    logit_loss,
    mean_warning,
    rank_entry,
    rank_mapping,
    rank_names,
)
from mmkendall.registry import MODELS
from mmkendall.warn_once import warn_once

RANK_LOSS = 'mmkendall.KendallRankLoss'


def add_rank_option(parser: argparse.ArgumentParser) -> None:
    """Adds ``--rank-loss`` to the options of a tool."""
    parser.add_argument(
        '--rank-loss',
        nargs='?',
        const='',
        metavar='NAME=VALUE,...',
        help="add the ranking loss beside the config's logit loss, with these arguments of "
        'KendallRankLoss; its weight is that of the logit loss unless loss_weight is given',
    )


def parse_rank_options(text: str) -> dict[str, Any]:
    """Options of the ranking loss from the command line.

    Args:
        text: ``'steepness=10,surrogate=hard_teacher'``; empty for the defaults.

    Raises:
        ConfigError: no ``name=value``, an unknown name, or a value that the loss refuses.
    """
    known = tuple(inspect.signature(KendallRankLoss).parameters)
    options: dict[str, Any] = {}
    for item in filter(None, text.split(',')):
        name, equals, value = item.partition('=')
        if not equals or name not in known:
            raise ConfigError(
                f'--rank-loss takes name=value,name=value with names out of {", ".join(known)}, '
                f'got {item!r}'
            )
        try:
            options[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[name] = value
    try:
        KendallRankLoss(**options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f'--rank-loss {text}: {error}') from error
    return options


def config_first(arguments: list[str]) -> list[str]:
    """Command line arguments in which ``--rank-loss CONFIG`` leaves the config to be the config.

    The option may stand without a value, and would take what follows it for one.
    """
    ordered = list(arguments)
    for index, (option, value) in enumerate(pairwise(arguments)):
        if option == '--rank-loss' and (value.endswith('.py') or '::' in value):
            ordered[index : index + 2] = [value, '--rank-loss=']
    return ordered


def add_rank_loss(cfg: Config, options: dict[str, Any]) -> dict[str, dict]:
    """Adds the ranking loss beside every logit loss of a distiller's config, in place.

    It reads the very records that the logit loss reads and, unless ``options`` say otherwise,
    takes its weight: the paper's gamma = alpha.

    Args:
        cfg: a config whose ``model.distiller`` is a ``ConfigurableDistiller``. Settings of the new
            entries that ``--cfg-options`` has put into it already are kept.
        options: arguments of ``KendallRankLoss``.

    Returns:
        The entries that were added to ``distill_losses``, by name.

    Raises:
        ConfigError: no distiller, no logit loss that we know, or it has the ranking loss already.
    """
    model = cfg.get('model') or {}
    distiller = model.get('distiller')
    if distiller is None:
        raise ConfigError(
            '--rank-loss needs a distillation config, one with model.distiller; '
            f'this config trains a {model.get("type")}'
        )
    with scope_of(cfg, model, distiller):
        if adds_rank_loss(distiller):
            raise ConfigError(
                '--rank-loss: the config has a mmkendall.RankAugmentedDistiller, which adds the '
                'ranking loss itself; set its options with --cfg-options '
                'model.distiller.rank_loss.NAME=VALUE'
            )
        return _add(distiller, options)


def adds_rank_loss(distiller: ConfigDict) -> bool:
    """Whether a distiller's config is that of a ``RankAugmentedDistiller``, however spelled."""
    found = resolve(distiller.get('type'), MODELS, distiller.get('_scope_'))
    if found is build_rank_augmented_distiller:
        return True
    # A class, as new-style configs name it: importing it needs mmrazor, so it is asked by name.
    return any(
        parent.__name__ == 'RankAugmentedDistiller' for parent in getattr(found, '__mro__', ())
    )


def _add(distiller: ConfigDict, options: dict[str, Any]) -> dict[str, dict]:
    losses = distiller.get('distill_losses') or {}
    mappings = distiller.get('loss_forward_mappings') or {}
    beside = find_logit_losses(losses, mappings, distiller.get('student_recorders'))
    if not beside:
        found = ', '.join(f'{name} ({loss.get("type")})' for name, loss in losses.items())
        raise ConfigError(
            '--rank-loss found no logit loss to stand beside: it knows '
            f'{", ".join(LOGIT_LOSSES)}, and the config has {found or "no distill_losses"}. '
            f'Add yourself a recorder of the logits to student_recorders and teacher_recorders '
            "(logits=dict(type='ModuleOutputs', source='head.fc') in most classifiers), "
            f'loss_rank=dict(type={RANK_LOSS!r}) to distill_losses, and to loss_forward_mappings '
            "loss_rank=dict(preds_S=dict(from_student=True, recorder='logits'), "
            "preds_T=dict(from_student=False, recorder='logits'))"
        )
    added = {}
    for name, rank_name in rank_names(beside).items():
        given = losses.get(rank_name, {})
        if 'type' in given:
            raise ConfigError(f'--rank-loss: the config already has an entry {rank_name!r}')
        twice = sorted(set(given) & set(options))
        if twice:
            raise ConfigError(
                f'--rank-loss sets {", ".join(twice)} and so does --cfg-options '
                f'model.distiller.distill_losses.{rank_name}: leave one of them out'
            )
        weight = logit_loss(losses[name]).get('loss_weight', 1.0)
        entry = rank_entry(losses[name], **{'loss_weight': weight, **options, **given})
        try:
            mapping = rank_mapping(losses[name], mappings[name])
        except ValueError as error:
            raise ConfigError(f'--rank-loss beside distill_losses.{name}: {error}') from error
        if divides_by_classes(losses[name]):
            warn_once(mean_warning(f'distill_losses.{name}'))
        added[rank_name] = entry
        losses[rank_name] = ConfigDict(entry)
        mappings[rank_name] = ConfigDict({**mapping, **mappings.get(rank_name, {})})
    return added

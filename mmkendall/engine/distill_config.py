"""Reading, checking and extending a distillation config before any work starts."""

from __future__ import annotations

import ast
import inspect
import os.path as osp
from importlib.util import find_spec
from typing import Any

from mmengine.config import Config, ConfigDict

from mmkendall.models.losses import KendallRankLoss
from mmkendall.models.losses.logit_losses import (
    LOGIT_LOSSES,
    find_logit_losses,
    logit_loss,
    rank_entry,
    rank_mapping,
    rank_names,
)

RANK_LOSS = 'mmkendall.KendallRankLoss'
RANK_DISTILLER = 'mmkendall.RankAugmentedDistiller'


# Scopes whose packages cannot be imported without mmcv's compiled operators.
NEED_OPERATORS = ('mmdet', 'mmseg')


class ConfigError(ValueError):
    """A config or an option that can't be run, with a message that says what to do."""


def load_config(path: str) -> Config:
    """Reads a config from a path or from ``package::path``.

    Args:
        path: a file, or a config of an installed package, such as
            ``mmrazor::distill/mmcls/kd/kd_logits_resnet34_resnet18_8xb32_in1k.py``.

    Raises:
        ConfigError: there is no such package or file, or what it inherits from is not installed.
    """
    if '::' in path:
        try:
            path, _ = Config._get_cfg_path(path, '')
        except (AssertionError, ImportError, FileNotFoundError, ValueError) as error:
            raise ConfigError(f'config {path!r}: {error}') from error
    if not osp.isfile(path):
        raise ConfigError(f'config {path!r} does not exist')
    try:
        cfg = Config.fromfile(path)
    except ModuleNotFoundError as error:  # It inherits from a package that is not there.
        raise ConfigError(f'config {path!r}: {error}') from error
    if cfg.get('default_scope') in NEED_OPERATORS and find_spec('mmcv._ext') is None:
        raise ConfigError(
            f'config {path!r} is of {cfg.default_scope}, whose heads need an mmcv with compiled '
            'operators; mmcv-lite has none. Remove it and install mmcv 2.1.0: docs/detection.md'
        )
    return cfg


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


def add_rank_loss(cfg: Config, options: dict[str, Any]) -> dict[str, dict]:
    """Adds the ranking loss beside every logit loss of a distiller's config, in place.

    It reads the very records that the logit loss reads and, unless ``options`` say otherwise,
    takes its weight: the paper's gamma = alpha.

    Args:
        cfg: a config whose ``model.distiller`` is a ``ConfigurableDistiller``.
        options: arguments of ``KendallRankLoss``.

    Returns:
        The entries that were added to ``distill_losses``, by name.

    Raises:
        ConfigError: no distiller, no logit loss that we know, or it has the ranking loss already.
    """
    distiller = _distiller(cfg)
    if distiller is None:
        raise ConfigError(
            '--rank-loss needs a distillation config, one with model.distiller; '
            f'this config trains a {cfg.get("model", {}).get("type")}'
        )
    if distiller.get('type') == RANK_DISTILLER:
        raise ConfigError(
            f'--rank-loss: the config has a {RANK_DISTILLER}, which adds the ranking loss itself; '
            'set its options with --cfg-options model.distiller.rank_loss.NAME=VALUE'
        )
    losses = distiller.get('distill_losses') or {}
    mappings = distiller.get('loss_forward_mappings') or {}
    beside = find_logit_losses(losses, mappings)
    if not beside:
        found = ', '.join(f'{name} ({loss.get("type")})' for name, loss in losses.items())
        raise ConfigError(
            '--rank-loss found no logit loss to stand beside: it knows '
            f'{", ".join(LOGIT_LOSSES)}, and the config has {found or "no distill_losses"}. '
            f'Add an entry of type {RANK_LOSS} to distill_losses and to loss_forward_mappings '
            'yourself'
        )
    added = {}
    for name, rank_name in rank_names(beside).items():
        if rank_name in losses:
            raise ConfigError(f'--rank-loss: the config already has an entry {rank_name!r}')
        weight = logit_loss(losses[name]).get('loss_weight', 1.0)
        added[rank_name] = rank_entry(losses[name], **{'loss_weight': weight, **options})
        losses[rank_name] = ConfigDict(added[rank_name])
        mappings[rank_name] = ConfigDict(rank_mapping(losses[name], mappings[name]))
    return added


def check_distill_config(cfg: Config) -> None:
    """Ends a run that can't work before it starts.

    Checks what mmrazor would find late, or never: a ranking loss whose name keeps it from being
    trained, records that no recorder makes, a teacher's checkpoint that is not there.

    Args:
        cfg: any config; one without a distiller passes.

    Raises:
        ConfigError: says what is wrong and what to do.
    """
    distiller = _distiller(cfg)
    if distiller is None:
        return
    losses = distiller.get('distill_losses') or {}
    mappings = distiller.get('loss_forward_mappings') or {}
    for name, loss in losses.items():
        if loss.get('type') != RANK_LOSS:
            continue
        if 'loss' not in name:
            raise ConfigError(
                f'distill_losses.{name} would be logged but never trained: mmengine trains only '
                f'what has "loss" in its name. Call it loss_{name}'
            )
        if name not in mappings:
            raise ConfigError(
                f'distill_losses.{name} has no entry in loss_forward_mappings, so it would never '
                'be computed. Map its preds_S and preds_T to recorders'
            )
    for name, arguments in mappings.items():
        for argument, record in arguments.items():
            _check_record(distiller, f'loss_forward_mappings.{name}.{argument}', record)
    checkpoints = {'teacher_ckpt': cfg.model.get('teacher_ckpt')}
    teacher = cfg.model.get('teacher')
    if isinstance(teacher, (list, tuple)):
        for index, entry in enumerate(teacher):
            checkpoints[f'teacher.{index}.checkpoint'] = entry.get('checkpoint')
    for name, checkpoint in checkpoints.items():
        if checkpoint and '://' not in checkpoint and not osp.isfile(checkpoint):
            raise ConfigError(
                f'model.{name} {checkpoint!r} does not exist. Pass the path of a trained '
                f'teacher, for instance with --cfg-options model.{name}=PATH'
            )


def _check_record(distiller: ConfigDict, where: str, record: dict) -> None:
    side = 'student_recorders' if record.get('from_student') else 'teacher_recorders'
    recorders = distiller.get(side) or {}
    if record.get('recorder') not in recorders:
        raise ConfigError(
            f'{where} reads recorder {record.get("recorder")!r}, which is not in {side}: '
            f'{", ".join(recorders) or "none"}'
        )
    connectors = distiller.get('connectors') or {}
    if record.get('connector') and record['connector'] not in connectors:
        raise ConfigError(
            f'{where} uses connector {record["connector"]!r}, which is not in connectors: '
            f'{", ".join(connectors) or "none"}'
        )


def _distiller(cfg: Config) -> ConfigDict | None:
    model = cfg.get('model')
    return model.get('distiller') if isinstance(model, dict) else None

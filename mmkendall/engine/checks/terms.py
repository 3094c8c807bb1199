"""The terms of a distiller's config: its losses are built, and what they read is looked up."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

from mmengine.config import Config
from torch import nn

from mmkendall.engine.checks.explain import reason, walk
from mmkendall.engine.checks.scopes import is_a, names, resolve, scope_of
from mmkendall.engine.errors import ConfigError
from mmkendall.engine.rank_option import adds_rank_loss
from mmkendall.models.losses import DenseLogitLoss, KendallRankLoss
from mmkendall.models.losses.logit_losses import (
    LOGIT_LOSSES,
    divides_by_classes,
    mean_warning,
    plain_type,
)
from mmkendall.warn_once import warn_once

RECORD = {
    'recorder': str,
    'from_student': bool,
    'record_idx': int,
    'data_idx': int,
    'connector': str,
    'connector_idx': int,
}
# What the forwards of losses call the student's and the teacher's side.
PAIRS = (
    ('preds_S', 'preds_T'),
    ('logits_S', 'logits_T'),
    ('student', 'teacher'),
    ('s_feature', 't_feature'),
    ('s_feats', 't_feats'),
    ('s_input', 't_input'),
)


def check_terms(cfg: Config) -> None:
    """Raises ConfigError for losses, mappings, recorders and connectors that do not fit.

    Args:
        cfg: a config with ``model.distiller``; one whose distiller does not derive from mmrazor's
            ``ConfigurableDistiller`` passes.
    """
    from mmrazor.models.distillers import ConfigurableDistiller
    from mmrazor.registry import MODELS as MMRAZOR_MODELS

    model, distiller = cfg.model, cfg.model.distiller
    with scope_of(cfg, model):
        if not isinstance(distiller, Mapping):
            raise ConfigError(f'model.distiller must be a dict with a type, got {distiller!r}')
        found = resolve(distiller.get('type'), MMRAZOR_MODELS, distiller.get('_scope_'))
        ranks = adds_rank_loss(distiller)
        reads_config = isinstance(found, type) and issubclass(found, ConfigurableDistiller)
        if found is not None and not (ranks or reads_config):
            return
        if found is None:
            _build('model.distiller', dict(type=distiller.get('type')), MMRAZOR_MODELS)
    with scope_of(cfg, model, distiller):
        losses = _build_all(distiller, 'distill_losses', MMRAZOR_MODELS)
        connectors = _build_all(distiller, 'connectors', MMRAZOR_MODELS)
        for side in ('student_recorders', 'teacher_recorders'):
            _check_recorders(distiller, side)
        for name, loss in losses.items():
            _check_loss(name, loss, distiller)
        for name in distiller.get('loss_forward_mappings') or {}:
            _check_mapping(name, distiller, losses, connectors)
        if _has_teacher(model, MMRAZOR_MODELS):
            for name, loss in losses.items():
                _check_sides(name, loss, distiller)
        if ranks:
            _check_rank_options(distiller)
        _warn(distiller, losses, ranks)


def check_weights(cfg: Config) -> None:
    """Raises ConfigError for a loss weight or a temperature that is none."""
    for path, config in walk(cfg.get('model'), 'model'):
        # It plays against the student, where weights below 0 are meant.
        if 'generator_distiller' in path:
            continue
        of_loss = 'distill_losses' in path
        for key, value in config.items():
            where = f'{path}.{key}'
            if isinstance(value, (list, tuple, Mapping)):
                continue  # One for each level or class, as some heads have them.
            weighs = key in ('loss_weight', 'rank_weight')
            if weighs or (of_loss and str(key).endswith('weight') and value is not None):
                _check_number(where, value, 0 <= _as_number(value) < math.inf, '0 at least')
            elif of_loss and key in ('tau', 'temperature'):
                _check_number(where, value, 0 < _as_number(value) < math.inf, 'above 0')


def _as_number(value: Any) -> float:
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan


def _check_number(where: str, value: Any, fits: bool, range_: str) -> None:
    if not fits:
        raise ConfigError(f'{where} must be a finite number, {range_}, got {value!r}')


def _build(where: str, config: Any, registry: Any) -> nn.Module:
    if not isinstance(config, Mapping) or 'type' not in config:
        raise ConfigError(f'{where} must be a dict with a type, got {config!r}')
    try:
        return registry.build(copy.deepcopy(config))
    except Exception as error:
        kind = resolve(config['type'], registry, config.get('_scope_'))
        raise ConfigError(f'{where}: {reason(error, kind)}') from error


def _build_all(distiller: Mapping, part: str, registry: Any) -> dict[str, nn.Module]:
    built = {}
    for name, config in _dict(distiller, part).items():
        where = f'model.distiller.{part}.{name}'
        if part == 'connectors' and isinstance(config, (list, tuple)):
            steps = enumerate(config)
            built[name] = nn.Sequential(
                *[_build(f'{where}.{index}', step, registry) for index, step in steps]
            )
        else:
            built[name] = _build(where, config, registry)
    return built


def _dict(distiller: Mapping, part: str) -> Mapping:
    value = distiller.get(part) or {}
    if not isinstance(value, Mapping):
        raise ConfigError(f'model.distiller.{part} must be a dict, got {value!r}')
    return value


def _check_recorders(distiller: Mapping, side: str) -> None:
    from mmrazor.models.task_modules import RecorderManager
    from mmrazor.registry import TASK_UTILS

    for name, config in _dict(distiller, side).items():
        where = f'model.distiller.{side}.{name}'
        if not isinstance(config, Mapping) or not isinstance(config.get('type'), str):
            raise ConfigError(
                f"{where} must be a dict with a type such as 'ModuleOutputs', a string to which "
                f"mmrazor adds 'Recorder', got {config!r}"
            )
        try:
            RecorderManager({name: config})
        except Exception as error:
            kind = resolve(f'{config["type"]}Recorder', TASK_UTILS, config.get('_scope_'))
            if kind is None:
                with TASK_UTILS.switch_scope_and_registry('mmrazor') as node:
                    known = [
                        key.removesuffix('Recorder')
                        for key in node.module_dict
                        if key.endswith('Recorder')
                    ]
                raise ConfigError(
                    f'{where}.type {config["type"]!r} is no recorder in this scope; mmrazor has '
                    f"{', '.join(known)}, and they are found under _scope_='mmrazor'"
                ) from error
            raise ConfigError(f'{where}: {reason(error, kind)}') from error


def _check_loss(name: str, loss: nn.Module, distiller: Mapping) -> None:
    if 'loss' not in name:
        raise ConfigError(
            f'distill_losses.{name} would be logged but never trained: mmengine trains only '
            f'what has "loss" in its name. Call it loss_{name}'
        )
    mappings = _dict(distiller, 'loss_forward_mappings')
    if name not in mappings:
        message = (
            f'distill_losses.{name} has no entry in loss_forward_mappings, so it would never be '
            'computed. Map what its forward takes to recorders, or take it out of distill_losses'
        )
        if is_logit_loss(loss):
            raise ConfigError(message)
        # A config that inherits may leave a loss of its base aside, as some of mmrazor's do.
        warn_once(message)


def _check_mapping(
    name: str, distiller: Mapping, losses: dict[str, nn.Module], connectors: dict
) -> None:
    where = f'loss_forward_mappings.{name}'
    mapping = distiller['loss_forward_mappings'][name]
    if name not in losses:
        raise ConfigError(
            f'{where} is for a loss that distill_losses does not have: {names(losses)}'
        )
    if not isinstance(mapping, Mapping):
        raise ConfigError(f'{where} must be a dict of records, got {mapping!r}')
    kind = type(losses[name]).__name__
    parameters = inspect.signature(losses[name].forward).parameters
    takes_any = any(
        parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()
    )
    for argument, record in mapping.items():
        if argument not in parameters and not takes_any:
            raise ConfigError(
                f'{where}.{argument}: the forward of a {kind} takes {names(parameters)}, and no '
                f'{argument}'
            )
        _check_record(distiller, f'{where}.{argument}', record, connectors)
    missing = [
        argument
        for argument, parameter in parameters.items()
        if argument not in mapping
        and parameter.default is inspect.Parameter.empty
        and parameter.kind not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    ]
    if missing:
        raise ConfigError(
            f'{where} lacks {names(missing)}: the forward of a {kind} takes {names(parameters)}'
        )


def _check_record(distiller: Mapping, where: str, record: Any, connectors: Mapping) -> None:
    if not isinstance(record, Mapping):
        raise ConfigError(f'{where} must be a dict with from_student and recorder, got {record!r}')
    for key, value in record.items():
        if key not in RECORD:
            raise ConfigError(f'{where} has {key!r}, and a record takes {names(RECORD)}')
        kind = RECORD[key]
        optional = key not in ('recorder', 'from_student') and value is None
        is_bool = isinstance(value, bool)
        if not optional and (not isinstance(value, kind) or is_bool is not (kind is bool)):
            raise ConfigError(f'{where}.{key} must be of type {kind.__name__}, got {value!r}')
    for key in ('recorder', 'from_student'):
        if key not in record:
            raise ConfigError(f'{where} lacks {key!r}: a record takes {names(RECORD)}')
    side = 'student_recorders' if record['from_student'] else 'teacher_recorders'
    recorders = _dict(distiller, side)
    if record['recorder'] not in recorders:
        raise ConfigError(
            f'{where} reads recorder {record["recorder"]!r}, which is not in {side}: '
            f'{names(recorders)}'
        )
    if record.get('connector') and record['connector'] not in connectors:
        raise ConfigError(
            f'{where} uses connector {record["connector"]!r}, which is not in connectors: '
            f'{names(connectors)}'
        )


def _has_teacher(model: Mapping, registry: Any) -> bool:
    """Whether a teacher of its own teaches a student that learns."""
    from mmrazor.models.algorithms import SingleTeacherDistill

    from mmkendall.models import LogitDistill

    distills = any(is_a(model, kind, registry) for kind in (SingleTeacherDistill, LogitDistill))
    return distills and model.get('student_trainable', True) is not False


def _check_sides(name: str, loss: nn.Module, distiller: Mapping) -> None:
    """Raises ConfigError for a loss whose two sides are swapped, or are the same."""
    inner = loss.loss if isinstance(loss, DenseLogitLoss) else loss
    if getattr(inner, 'teacher_detach', True) is False:
        return  # With a gradient on either side, each may be the other's teacher.
    mapping = _dict(distiller, 'loss_forward_mappings').get(name, {})
    for student, teacher in PAIRS:
        if student not in mapping or teacher not in mapping:
            continue
        sides = mapping[student]['from_student'], mapping[teacher]['from_student']
        if sides == (False, True):
            raise ConfigError(
                f'loss_forward_mappings.{name} has {student} from the teacher and {teacher} from '
                'the student: they are swapped, and the student would learn nothing'
            )
        if sides in ((True, True), (False, False)) and is_logit_loss(loss):
            side = 'student' if sides[0] else 'teacher'
            raise ConfigError(
                f'loss_forward_mappings.{name} has both {student} and {teacher} from the {side}: '
                f'set from_student=True for {student} and False for {teacher}'
            )


def is_logit_loss(loss: nn.Module) -> bool:
    """Whether a loss compares two sets of logits, by its class."""
    if isinstance(loss, (DenseLogitLoss, KendallRankLoss)):
        return True
    return any(parent.__name__ in LOGIT_LOSSES for parent in type(loss).__mro__)


def _check_rank_options(distiller: Mapping) -> None:
    """What a RankAugmentedDistiller checks as it is built, under the names of the config."""
    options = dict(distiller.get('rank_loss') or {})
    try:
        KendallRankLoss(**options)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f'model.distiller.rank_loss: {reason(error, KendallRankLoss)}'
        ) from error


def _warn(distiller: Mapping, losses: dict[str, nn.Module], ranks: bool) -> None:
    from mmrazor.models.losses import DKDLoss

    modules = {name: list(loss.modules()) for name, loss in losses.items()}
    has_rank = ranks or any(isinstance(m, KendallRankLoss) for ms in modules.values() for m in ms)
    for name, parts in modules.items():
        if any(isinstance(part, DKDLoss) for part in parts):
            warn_once(
                f"distill_losses.{name} is mmrazor's DKDLoss, which sums over the batch whatever "
                'its reduction says: its weight grows with the batch size, and a ranking loss '
                "beside it is a mean. type='mmkendall.DKDLoss' takes the mean, as the paper does"
            )
        config = distiller['distill_losses'][name]
        if has_rank and divides_by_classes(config) and plain_type(config) != 'KendallRankLoss':
            warn_once(mean_warning(f'distill_losses.{name}'))

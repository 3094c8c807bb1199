"""The check of a config before anything of the run is built."""

from __future__ import annotations

from collections.abc import Mapping

from mmengine.config import Config
from mmengine.registry import LOOPS, OPTIMIZERS

from mmkendall.engine.checks.explain import walk
from mmkendall.engine.checks.scopes import close_types, is_a, resolve, scope_of
from mmkendall.engine.checks.teachers import check_checkpoints_exist
from mmkendall.engine.checks.terms import check_terms, check_weights
from mmkendall.engine.errors import ConfigError
from mmkendall.warn_once import warn_once


def check_distill_config(cfg: Config) -> None:
    """Ends a run that can't work before it starts.

    Checks what mmrazor would find late, or never, on the losses, connectors and recorders of the
    distiller, which are built for it: losses that would not be trained or not be computed,
    arguments that a loss does not take, records that no recorder makes, sides that are swapped,
    options out of their range, checkpoints that are not there.

    Args:
        cfg: any config; of one without a distiller only weights and checkpoints are looked at.

    Raises:
        ConfigError: says what is wrong and what to do.
    """
    model = cfg.get('model')
    if not isinstance(model, Mapping):
        raise ConfigError(f'the config must have a model, a dict with a type, got {model!r}')
    if model.get('distiller') is not None:
        check_terms(cfg)
    check_weights(cfg)
    check_checkpoints_exist(cfg)
    _check_optimizers(cfg)
    _check_validation(cfg)
    _warn_of_two_preprocessors(cfg)


def _warn_of_two_preprocessors(cfg: Config) -> None:
    """Warns of settings that the Runner leaves unread, as the model has its own."""
    beside, own = cfg.get('data_preprocessor'), cfg.model.get('data_preprocessor')
    if not isinstance(beside, Mapping) or not isinstance(own, Mapping):
        return
    differ = [key for key in own if key in beside and own[key] != beside[key] and key != 'type']
    if differ:
        said = ', '.join(f'{key} ({own[key]} for {beside[key]})' for key in differ)
        warn_once(
            'data_preprocessor of the config is not used, as model.data_preprocessor is there '
            f'and differs in {said}: make them equal, or leave one out'
        )


def _check_validation(cfg: Config) -> None:
    """Raises ConfigError for mmrazor's validation of a teacher where there is none."""
    val_cfg = cfg.get('val_cfg')
    if cfg.model.get('teacher') is not None or cfg.model.get('teacher_logits') is None:
        return
    if not isinstance(val_cfg, Mapping) or val_cfg.get('type') is None:
        return
    from mmrazor.engine import SingleTeacherDistillValLoop

    with scope_of(cfg):
        if is_a(val_cfg, SingleTeacherDistillValLoop, LOOPS):
            raise ConfigError(
                'val_cfg.type must be a loop that needs no teacher where model.teacher is None, '
                'got SingleTeacherDistillValLoop: '
                "set val_cfg=dict(_delete_=True, type='ValLoop')"
            )


def _check_optimizers(cfg: Config) -> None:
    """Raises ConfigError for an optimizer that is unknown: mmengine says only that None is."""
    with scope_of(cfg):
        for path, config in walk(cfg.get('optim_wrapper'), 'optim_wrapper'):
            kind = config.get('type')
            if not path.endswith('.optimizer') or not isinstance(kind, str):
                continue
            if resolve(kind, OPTIMIZERS, config.get('_scope_')) is None:
                raise ConfigError(
                    f'{path}.type: the optimizer {kind!r} is not known; names like it: '
                    f'{close_types(kind)}'
                )

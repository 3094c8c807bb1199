"""Where the recorders of a distiller point, looked up in the models that they record."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config
from torch import nn

from mmkendall.engine.checks.scopes import close_names, scope_of
from mmkendall.engine.errors import ConfigError


def check_sources(cfg: Config) -> None:
    """Raises ConfigError for a recorder whose module or parameter is not in its model.

    Called once a model could not be built, as it builds the student and the teachers again to
    have their names. What cannot be built on its own says nothing here.
    """
    model = cfg.get('model')
    if not isinstance(model, Mapping) or not isinstance(model.get('distiller'), Mapping):
        return
    for side, part, config, recorders in _models(model):
        network = _build(cfg, model, config)
        for name, recorder in (recorders or {}).items():
            source, kind = recorder.get('source'), str(recorder.get('type'))
            if network is None or kind not in ('ModuleOutputs', 'ModuleInputs', 'Parameter'):
                continue
            items = network.named_parameters() if kind == 'Parameter' else network.named_modules()
            known = [key for key, _ in items if key]
            if source not in known:
                what = 'parameter' if kind == 'Parameter' else 'module'
                raise ConfigError(
                    f'{side}.{name} records the {what} {source!r}, which the {part} does not '
                    f'have; it has {_candidates(str(source), known)}'
                )


def _models(model: Mapping) -> Iterator[tuple[str, str, Any, Any]]:
    distiller = model['distiller']
    of_teacher = distiller.get('teacher_recorders')
    yield (
        'student_recorders',
        'student',
        model.get('architecture'),
        distiller.get('student_recorders'),
    )
    teacher = model.get('teacher')
    if isinstance(teacher, (list, tuple)):
        for index, entry in enumerate(teacher):
            own = entry.get('recorders')
            side = f'teacher.{index}.recorders' if own else 'teacher_recorders'
            yield side, f'teacher {index}', entry.get('model'), own or of_teacher
    elif teacher is not None:
        yield 'teacher_recorders', 'teacher', teacher, of_teacher
    elif model.get('teachers') is None:  # The student is its own teacher.
        yield 'teacher_recorders', 'student', model.get('architecture'), of_teacher


def _build(cfg: Config, model: Mapping, config: Any) -> nn.Module | None:
    from mmrazor.registry import MODELS as MMRAZOR_MODELS

    if isinstance(config, nn.Module):
        return config
    try:
        with scope_of(cfg, model):
            return MMRAZOR_MODELS.build(copy.deepcopy(config))
    except Exception:
        return None  # The message of the whole build says why.


def _candidates(source: str, known: list[str]) -> str:
    """The names most like one: spelled like it, with its last part, and beside it."""
    last, parent = source.rpartition('.')[2], source.rpartition('.')[0]
    same_last = [name for name in known if name.rpartition('.')[2] == last]
    beside = [name for name in known if parent and name.startswith(f'{parent}.')]
    close = [name for name in close_names(source, known).split(', ') if name]
    found = list(dict.fromkeys([*same_last[:3], *close[:3], *beside[:3]]))
    if not found:
        found = list(dict.fromkeys(name.partition('.')[0] for name in known))
    return ', '.join(found[:6])

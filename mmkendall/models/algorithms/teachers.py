"""Teachers: what a config may say of them, how they are built, which weights they have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.model import BaseModel, BaseModule
from mmengine.runner import load_checkpoint
from torch import nn

from mmkendall.class_names import class_names
from mmkendall.models.algorithms.loading import (
    LoadingCheck,
    check_finite,
    has_pretrained_weights,
    watch_parts,
)
from mmkendall.warn_once import warn_once

# What mmrazor's SingleTeacherDistill can be told otherwise, and what LogitDistill always does.
OF_SINGLE_TEACHER = {
    'teacher_trainable': False,
    'teacher_norm_eval': True,
    'student_trainable': True,
}
RANDOM_TEACHER = (
    'a teacher has random weights: neither teacher_ckpt, nor checkpoint in a list of teachers, '
    'nor an init_cfg of type Pretrained names its checkpoint, and none that holds it was loaded'
)
# The keys of one teacher in a list of teachers, and the types of their values.
ENTRY = {
    'model': dict,
    'checkpoint': (str, Path),
    'weight': (int, float),
    'input_size': (int, tuple, list),
    'recorders': dict,
}


def check_single_teacher_arguments(arguments: dict[str, Any]) -> None:
    """Checks arguments of ``SingleTeacherDistill`` that a config may bring along.

    Raises:
        TypeError: it has no such argument either.
        ValueError: another value than the one that describes ``LogitDistill``.
    """
    for name, value in arguments.items():
        if name not in OF_SINGLE_TEACHER:
            raise TypeError(f'LogitDistill.__init__() got an unexpected keyword argument {name!r}')
        if value is not OF_SINGLE_TEACHER[name]:
            raise ValueError(
                f'{name} must be {OF_SINGLE_TEACHER[name]}, got {value!r}: LogitDistill freezes '
                'the teacher and trains the student. Use mmrazor.SingleTeacherDistill'
            )


def teacher_entries(
    teacher: dict | BaseModel | Sequence[dict] | None, checkpoint: str | None
) -> list[dict[str, Any]]:
    """The argument ``teacher`` as a list of dicts that have every key of ``ENTRY``."""
    defaults = dict(checkpoint=None, weight=1.0, input_size=None, recorders=None)
    if teacher is None:
        if checkpoint is not None:
            raise ValueError(
                f'teacher_ckpt must be None where teacher is None, got {checkpoint!r}: there is '
                'no teacher to load it into'
            )
        return []
    if not isinstance(teacher, (list, tuple)):
        return [{**defaults, 'model': teacher, 'checkpoint': checkpoint}]
    if checkpoint is not None:
        raise ValueError(
            f'teacher_ckpt is for a single teacher, got {checkpoint!r} beside a list of teachers: '
            "give each its 'checkpoint'"
        )
    if not teacher:
        raise ValueError('teacher must be a model or a list of at least one teacher, got []')
    entries = []
    for index, entry in enumerate(teacher):
        if not isinstance(entry, dict) or 'model' not in entry or not set(entry) <= set(ENTRY):
            got = sorted(entry) if isinstance(entry, dict) else type(entry).__name__
            raise ValueError(
                f"teacher[{index}] must be a dict with 'model' and at most "
                f'{", ".join(list(ENTRY)[1:])}, got {got}'
            )
        for name, types in list(ENTRY.items())[1:]:
            value = entry.get(name)
            if value is not None and not isinstance(value, types):
                raise TypeError(f'teacher[{index}].{name} cannot be {value!r}')
        entry = {**defaults, **entry}
        if not entry['weight'] > 0:
            raise ValueError(f'teacher[{index}].weight must be above 0, got {entry["weight"]!r}')
        if isinstance(entry['input_size'], (list, tuple)):
            entry['input_size'] = tuple(entry['input_size'])
            if len(entry['input_size']) != 2:
                raise ValueError(
                    f'teacher[{index}].input_size must be an int or (height, width), got '
                    f'{entry["input_size"]!r}'
                )
        entries.append(entry)
    return entries


def build(config: dict) -> nn.Module:
    """Builds as mmrazor does: its registry also takes ``cfg_path``, a config of a package."""
    # Imported here, so that mmkendall.models works without mmrazor.
    from mmrazor.registry import MODELS as MMRAZOR_MODELS

    return MMRAZOR_MODELS.build(config)


def build_model(model: dict | BaseModel, argument: str) -> BaseModel:
    """A model from its config, or as it is.

    Modules that are given as objects, the whole model or a part of it, keep their weights: the
    runner does not initialise them.

    Raises:
        TypeError: neither a config nor a model of mmengine.
        ValueError: an object that still has to load what its ``init_cfg`` names.
    """
    for module in given_modules(model):
        keep_weights(module, argument)
    if isinstance(model, dict):
        model = build(model)
    if not isinstance(model, BaseModel):
        raise TypeError(
            f'{argument} must be the config of a model or a BaseModel, got {type(model).__name__}'
        )
    return model


def given_modules(config: Any) -> Iterator[nn.Module]:
    """Modules that stand in a config as objects."""
    if isinstance(config, nn.Module):
        yield config
    elif isinstance(config, (dict, list, tuple)):
        for value in config.values() if isinstance(config, dict) else config:
            yield from given_modules(value)


def keep_weights(module: nn.Module, argument: str) -> None:
    """Lets no runner initialise a module that has its weights already."""
    if getattr(module, 'is_init', False):
        return
    if has_pretrained_weights(module):
        raise ValueError(
            f'{argument} is a {type(module).__name__} object whose init_cfg names a checkpoint '
            'that is not loaded yet: call its init_weights() before, or set is_init = True if it '
            'has its weights'
        )
    for child in module.children():
        keep_weights(child, argument)
    if isinstance(module, BaseModule):
        module._is_init = True


def build_teacher(entry: dict[str, Any]) -> tuple[BaseModel, LoadingCheck]:
    """A teacher with the weights that it was given, and what is known of them.

    Raises:
        CheckpointError: its checkpoint is of another model, or there is a NaN in its weights.
    """
    model = build_model(entry['model'], 'teacher')
    check = LoadingCheck(model, 'teacher', complete=True, finite=True)
    watch_parts(model, 'teacher')
    meta = {'dataset_meta': getattr(model, '_dataset_meta', None)}  # mmpretrain.get_model sets it.
    if entry['checkpoint'] is not None:
        check.source = str(entry['checkpoint'])
        checkpoint = load_checkpoint(model, check.source, map_location='cpu', logger='silent')
        meta = checkpoint.get('meta') or {}
        # Else the runner's init_weights would overwrite what was loaded.
        model._is_init = True
    elif model.is_init:
        check_finite(model, 'teacher')
    check.classes = class_names(meta)
    check.reloadable = entry['checkpoint'] is not None or has_pretrained_weights(model)
    check.given = model.is_init or check.reloadable
    return model, check


def warn_of_random_teachers(loading: Sequence[LoadingCheck]) -> None:
    """Warns, once, of a teacher that nobody has given any weights."""
    if not all(check.given or check.loaded for check in loading):
        warn_once(RANDOM_TEACHER)

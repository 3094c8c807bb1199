"""Checks of a teacher: that its weights are there, fit it, and mean the classes of the data."""

from __future__ import annotations

import os.path as osp
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

from mmengine.config import Config
from mmengine.model import BaseModel, PretrainedInit
from mmengine.registry import MODELS, WEIGHT_INITIALIZERS
from mmengine.runner import CheckpointLoader, load_checkpoint
from torch import nn

from mmkendall.class_names import class_names
from mmkendall.engine.checks.explain import walk
from mmkendall.engine.checks.scopes import is_a, resolve, scope_of
from mmkendall.engine.errors import ConfigError
from mmkendall.models.algorithms.loading import LoadingCheck
from mmkendall.models.connectors import LogitStandardization, OrderScores, SelectClasses
from mmkendall.warn_once import warn_once

# Settings by which a user says that what looks wrong is meant.
RANDOM_TEACHER = 'allow_random_teacher'
OTHER_CLASSES = 'allow_other_class_names'

# Beyond this share of equal names, in their places, the others are likely spelled differently.
MOST_SAME = 0.95


def teacher_entries(model: Mapping) -> Iterator[tuple[str, Any, Any]]:
    """Each teacher of a config: where its checkpoint is named, its own config, the checkpoint."""
    teacher = model.get('teacher')
    if isinstance(teacher, (list, tuple)):
        for index, entry in enumerate(teacher):
            if isinstance(entry, Mapping):
                yield f'teacher.{index}.checkpoint', entry.get('model'), entry.get('checkpoint')
    elif teacher is not None or model.get('teacher_ckpt') is not None:
        yield 'teacher_ckpt', teacher, model.get('teacher_ckpt')
    teachers = model.get('teachers')  # Of mmrazor's data-free distillation.
    if isinstance(teachers, Mapping):
        for name, entry in teachers.items():
            if isinstance(entry, Mapping):
                yield f'teachers.{name}.ckpt_path', entry.get('build_cfg'), entry.get('ckpt_path')


def check_checkpoints_exist(cfg: Config) -> None:
    """Raises ConfigError for a checkpoint of the model's that is no file."""
    for where, _, checkpoint in teacher_entries(cfg.model):
        if checkpoint is not None and not isinstance(checkpoint, (str, osp.os.PathLike)):
            raise ConfigError(f'model.{where} must be a path or a URL, got {checkpoint!r}')
        _check_exists(f'model.{where}', checkpoint, 'a trained teacher')
    for path, config in walk(cfg.model, 'model'):
        _check_spelling(path, config)
        if loads_weights(config):
            _check_exists(f'{path}.checkpoint', config.get('checkpoint'), 'its weights')


def _check_exists(where: str, checkpoint: Any, of: str) -> None:
    if checkpoint and '://' not in str(checkpoint) and not osp.isfile(checkpoint):
        raise ConfigError(
            f'{where} {str(checkpoint)!r} does not exist. Pass the path of {of}, for instance '
            f'with --cfg-options {where}=PATH'
        )


def check_not_random(cfg: Config, model: nn.Module) -> None:
    """Raises ConfigError for a teacher whose weights, or whose recorded part, nothing has trained.

    Args:
        cfg: the config of the run.
        model: the algorithm that was built from it.
    """
    if cfg.get(RANDOM_TEACHER) or cfg.model.get('teacher_trainable'):
        return
    if cfg.get('resume') or cfg.get('load_from'):
        return  # What is loaded may hold the teacher.
    entries = [
        entry for entry in teacher_entries(cfg.model) if not entry[0].startswith('teachers')
    ]
    for (where, config, checkpoint), teacher in zip(entries, teachers_of(model), strict=False):
        if checkpoint or not isinstance(config, Mapping):
            continue
        if any(part.get('pretrained') is True for _, part in walk(config)):
            continue  # Its class loads weights by itself.
        parts = random_parts(teacher)
        sources = [
            str(recorder.get('source'))
            for recorder in (cfg.model.distiller.get('teacher_recorders') or {}).values()
        ]
        recorded = [
            part for part in parts if any(f'{name}.'.startswith(f'{part}.') for name in sources)
        ]
        if '' in parts or recorded:
            what = f'of its {", ".join(recorded)} ' if recorded and '' not in parts else ''
            raise ConfigError(
                f'model.{where} is {checkpoint!r} and no init_cfg {what}is of type Pretrained: '
                "the teacher's weights would be random. Name a checkpoint with --cfg-options "
                f'model.{where}=PATH, or say with {RANDOM_TEACHER}=True that this is meant'
            )


def random_parts(model: nn.Module, name: str = '') -> list[str]:
    """The outermost modules whose weights no ``init_cfg`` loads; '' for the whole model."""
    init_cfg = getattr(model, 'init_cfg', None)
    configs = init_cfg if isinstance(init_cfg, (list, tuple)) else [init_cfg]
    if any(loads_weights(config) for config in configs):
        return []
    weighted = [
        (child_name, child)
        for child_name, child in model.named_children()
        if next(child.parameters(), None) is not None
    ]
    parts = [
        part
        for child_name, child in weighted
        for part in random_parts(child, f'{name}.{child_name}' if name else child_name)
    ]
    own = next(model.parameters(recurse=False), None) is not None
    all_random = [f'{name}.{child}' if name else child for child, _ in weighted] == parts
    return [name] if own or (parts and all_random) or not weighted else parts


def loads_weights(config: Any) -> bool:
    """Whether a config is an ``init_cfg`` that loads a checkpoint, as mmengine reads it."""
    return isinstance(config, Mapping) and config.get('type') in ('Pretrained', PretrainedInit)


def _check_spelling(path: str, config: Mapping) -> None:
    """Raises ConfigError for an ``init_cfg`` that loads weights over which mmengine initialises.

    It loads last what is called Pretrained, or is the class. Under another name the same class
    comes first, and the initialisation of the parts then overwrites what it has loaded.
    """
    if loads_weights(config) or 'checkpoint' not in config:
        return
    kind = resolve(config.get('type'), WEIGHT_INITIALIZERS, config.get('_scope_'))
    if isinstance(kind, type) and issubclass(kind, PretrainedInit):
        raise ConfigError(
            f"{path}.type must be 'Pretrained', got {config['type']!r}: under any other name "
            'mmengine initialises the parts of the model over the weights that it loads'
        )


def teachers_of(model: nn.Module) -> list[nn.Module]:
    """The teachers inside an algorithm, in order."""
    teacher = getattr(model, 'teacher', None)
    if isinstance(teacher, nn.ModuleList):
        return list(teacher)
    return [teacher] if isinstance(teacher, nn.Module) else []


def check_loaded(cfg: Config, model: BaseModel) -> list[tuple[str, ...] | None]:
    """Compares a teacher of mmrazor's ``SingleTeacherDistill`` with its checkpoint.

    mmengine only logs what a checkpoint lacks or has beside the model's weights, and a teacher of
    another architecture stays as random as it was built.

    Returns:
        The class names of each teacher's checkpoint, None for one that names none.

    Raises:
        CheckpointError: the checkpoint lacks weights of the teacher, has them in other shapes, or
            with a NaN.
    """
    from mmrazor.models.algorithms import SingleTeacherDistill

    names = getattr(model, 'teacher_classes', None)
    if names is not None:
        return list(names)
    of_teachers = []
    for _, _, checkpoint in teacher_entries(cfg.model):
        if not checkpoint:
            of_teachers.append(None)
            continue
        loaded = CheckpointLoader.load_checkpoint(
            str(checkpoint), map_location='cpu', logger='silent'
        )
        if isinstance(model, SingleTeacherDistill):
            check = LoadingCheck(model.teacher, 'teacher', complete=True, finite=True)
            check.source = str(checkpoint)
            load_checkpoint(model.teacher, check.source, map_location='cpu', logger='silent')
        of_teachers.append(class_names(loaded.get('meta')))
    return of_teachers


def check_class_names(
    cfg: Config, of_teachers: list[tuple[str, ...] | None], of_data: Any
) -> None:
    """Raises ConfigError for a teacher whose classes are not those of the training data.

    Args:
        cfg: the config of the run.
        of_teachers: the class names of each teacher's checkpoint, in the order of its logits.
        of_data: those of the data set, in the order of its labels; None if it names none.
    """
    if cfg.get(OTHER_CLASSES) or not of_data or isinstance(of_data, str) or _picks_classes(cfg):
        return
    of_data = tuple(map(str, of_data))  # As those of a checkpoint are read.
    for index, classes in enumerate(of_teachers):
        if classes is None or tuple(classes) == of_data:
            continue
        which = f'teacher {index}' if len(of_teachers) > 1 else 'the teacher'
        if set(classes) == set(of_data) and len(classes) == len(of_data):
            at = next(i for i, (a, b) in enumerate(zip(classes, of_data, strict=True)) if a != b)
            raise ConfigError(
                f'{which} and the training data have the same classes in another order: logit '
                f'{at} is {classes[at]!r} to the teacher and {of_data[at]!r} in the data. Set '
                f"train_dataloader.dataset.metainfo.classes to the teacher's order, or put its "
                'logits into that of the data with a mmkendall.SelectClasses as connector'
            )
        same = sum(a == b for a, b in zip(classes, of_data, strict=False))
        if len(classes) == len(of_data) and same > MOST_SAME * len(of_data):
            at = next(i for i, (a, b) in enumerate(zip(classes, of_data, strict=True)) if a != b)
            warn_once(
                f'{which} and the training data name {len(of_data) - same} of {len(of_data)} '
                f'classes differently, such as {classes[at]!r} and {of_data[at]!r}: are they the '
                'same classes?'
            )
            continue
        only_teacher = [name for name in classes if name not in of_data]
        only_data = [name for name in of_data if name not in classes]
        raise ConfigError(
            f'{which} knows {len(classes)} classes and the training data has {len(of_data)}, and '
            f'they are not the same: {_some(only_teacher)} only in the teacher, '
            f'{_some(only_data)} only in the data. Take a teacher of these classes, pick them '
            f'with a mmkendall.SelectClasses as connector, or say with {OTHER_CLASSES}=True that '
            'only the names differ'
        )


def check_picked_names(cfg: Config, distiller: nn.Module, of_data: Any) -> None:
    """Raises ConfigError for classes that are picked by name and are not those of the data."""
    if cfg.get(OTHER_CLASSES):
        return
    for name, module in distiller.named_modules():
        picked = getattr(module, 'names', None) if isinstance(module, SelectClasses) else None
        if picked is None or not of_data or picked == tuple(of_data):
            continue
        pairs = enumerate(zip_longest(picked, of_data))
        at, (ours, theirs) = next((at, pair) for at, pair in pairs if pair[0] != pair[1])
        raise ConfigError(
            f'{name}.classes must be those of the training data, in their order: class {at} is '
            f'{ours!r} there and {theirs!r} in the data. If only the names differ, say so with '
            f'{OTHER_CLASSES}=True'
        )


def _some(names: list[str]) -> str:
    shown = ', '.join(repr(name) for name in names[:3])
    return f'{shown} and {len(names) - 3} more' if len(names) > 3 else shown or 'none'


def _picks_classes(cfg: Config) -> bool:
    """Whether all that the losses read of the teacher goes through a connector first."""
    distiller = cfg.model.get('distiller') or {}
    of_teacher = [
        record
        for mapping in (distiller.get('loss_forward_mappings') or {}).values()
        for argument, record in mapping.items()
        if not record.get('from_student')
    ]
    with scope_of(cfg, cfg.model, distiller):
        return bool(of_teacher) and all(_picks(distiller, record) for record in of_teacher)


def _picks(distiller: Mapping, record: Mapping) -> bool:
    connector = (distiller.get('connectors') or {}).get(record.get('connector'))
    steps = connector if isinstance(connector, (list, tuple)) else [connector]
    # Z-scores and ranks leave the classes where they are.
    staying = (LogitStandardization, OrderScores)
    return any(isinstance(step, Mapping) and not is_a(step, staying, MODELS) for step in steps)

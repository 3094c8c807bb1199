"""What a student says of its data preprocessor reaches the model that wraps it."""

from __future__ import annotations

from collections.abc import Iterable

from mmengine.model import BaseDataPreprocessor, BaseModel
from torch import nn

from mmkendall.models.algorithms.teacher_input import Normalization, normalizes
from mmkendall.warn_once import warn_once

# Of data preprocessors, and of BaseModel.
SETTINGS = ('pad_size_divisor', 'pad_value', 'to_onehot')
STEPS = ('train_step', 'val_step', 'test_step', 'parse_losses')


def fill_in(data_preprocessor: dict | nn.Module | None, student: BaseModel) -> dict | nn.Module:
    """The data preprocessor of the wrapping model, with the type that the student would take.

    A classifier of mmpretrain completes a config without ``type``; all its data-set configs are
    such.

    Raises:
        ValueError: no type, and the student has no data preprocessor to take it from.
    """
    own = student.data_preprocessor
    if data_preprocessor is None:
        return own
    if isinstance(data_preprocessor, dict) and 'type' not in data_preprocessor:
        if type(own) is BaseDataPreprocessor:
            raise ValueError(
                f'data_preprocessor needs a type, got {sorted(data_preprocessor)}: a '
                f'{type(student).__name__} has none of its own to take it from'
            )
        return {**data_preprocessor, 'type': type(own)}
    return data_preprocessor


def adopt_settings(ours: nn.Module, student: BaseModel) -> None:
    """Gives the wrapping model's data preprocessor the student's batch augmentation.

    Mixed images then go to student and teacher alike. What of the student's own data preprocessor
    differs otherwise is left, with a warning: the wrapping model's is the one that runs.

    Raises:
        ValueError: the student has batch augmentation, and ours cannot have any.
    """
    warn_of_own_steps(student)
    own = student.data_preprocessor
    if own is ours:
        return
    lost = lost_augmentation(ours, student)
    if lost and not hasattr(ours, 'batch_augments'):
        raise ValueError(lost)
    if lost:
        ours.batch_augments = own.batch_augments
        # Labels are mixed as scores.
        ours.to_onehot = True
        if getattr(ours, 'num_classes', None) is None:
            ours.num_classes = getattr(own, 'num_classes', None) or getattr(
                getattr(student, 'head', None), 'num_classes', None
            )
    unused = [name for name in SETTINGS if differs(name, own, ours)]
    if normalizes(own) and Normalization.of(own) != Normalization.of(ours):
        unused.append(f'{Normalization.of(own)}, in place of {Normalization.of(ours)}')
    if unused and (normalizes(own) or getattr(own, 'to_onehot', False)):
        warn_once(
            "settings of the architecture's own data_preprocessor are not used, as the model's is "
            f'the one that runs, for student and teacher: {", ".join(unused)}'
        )


def tell_classes(ours: nn.Module, models: Iterable[BaseModel]) -> None:
    """Tells the models inside how many classes there are, where their configs do not say it.

    Hooks that look at every module, as mmpretrain's ClassNumCheckHook, then find one number.
    """
    for model in models:
        own = model.data_preprocessor
        if hasattr(own, 'num_classes') and own.num_classes is None:
            own.num_classes = getattr(ours, 'num_classes', None)


def warn_of_own_steps(student: BaseModel) -> None:
    """Says which methods of a training step a student has changed: its wrapper's own run."""
    kind = type(student)
    changed = [name for name in STEPS if getattr(kind, name) is not getattr(BaseModel, name)]
    if changed:
        warn_once(
            f'{", ".join(changed)} of the {kind.__name__} are not used: the model that '
            "distils runs the student's forward in steps of its own"
        )


def differs(name: str, one: nn.Module, other: nn.Module) -> bool:
    """Whether two modules have a setting and not the same."""
    return (
        hasattr(one, name) and hasattr(other, name) and getattr(one, name) != getattr(other, name)
    )


def lost_augmentation(data_preprocessor: nn.Module, student: nn.Module) -> str | None:
    """Says that a student's batch augmentation does not run in a model that wraps it, or None."""
    own = getattr(student, 'data_preprocessor', None)
    if own is data_preprocessor or getattr(own, 'batch_augments', None) is None:
        return None
    if getattr(data_preprocessor, 'batch_augments', None) is not None:
        return None
    return (
        "the student's batch augmentation (architecture.train_cfg.augments) would not run: the "
        f"model's data_preprocessor, a {type(data_preprocessor).__name__}, is the one that runs, "
        'and it has no batch_augments. Set data_preprocessor.batch_augments to the same'
    )

"""Checkpoints without the teachers, and the checksum that tells one teacher from another."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch
from torch import nn

from mmkendall.warn_once import warn_once

if TYPE_CHECKING:
    from mmkendall.models.algorithms.logit_distill import LogitDistill


def weights_checksum(model: nn.Module) -> str:
    """SHA-256 over names and values of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        values = value.detach().cpu().contiguous()
        digest.update(f'{name} {tuple(values.shape)} {values.dtype}'.encode())
        digest.update(values.view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def drop_teacher(model: LogitDistill, state: dict, prefix: str, local_metadata: dict) -> None:
    """Leaves teachers that can be loaded from their own checkpoints out of a state dict."""
    if model.save_teacher:
        return
    several = len(model.teachers) > 1
    for index, loading in enumerate(model.teacher_loading):
        if loading.reloadable:
            of_teacher = f'{prefix}teacher.{index}.' if several else f'{prefix}teacher.'
            for name in [name for name in state if name.startswith(of_teacher)]:
                del state[name]


def allow_missing_teacher(model: LogitDistill, incompatible_keys) -> None:
    """Lets ``strict=True`` load a checkpoint from which such teachers were left out, whole."""
    several = len(model.teachers) > 1
    missing = incompatible_keys.missing_keys
    for index, teacher in enumerate(model.teachers):
        prefix = f'teacher.{index}.' if several else 'teacher.'
        names = {prefix + name for name in teacher.state_dict()}
        # An averaged model has its copy under module.
        absent = [name for name in missing if name.removeprefix('module.') in names]
        if model.teacher_loading[index].reloadable and len(absent) == len(names):
            missing[:] = [name for name in missing if name not in absent]


def warn_of_another_teacher(model: LogitDistill, state: dict, prefix: str, *_) -> None:
    """Says that a checkpoint's teacher takes the place of one that was given with its weights."""
    several = len(model.teachers) > 1
    for index, teacher in enumerate(model.teachers):
        of_teacher = f'{prefix}teacher.{index}.' if several else f'{prefix}teacher.'
        if not (model.teacher_loading[index].given and teacher.is_init):
            continue
        differs = any(
            of_teacher + name in state
            and not torch.equal(state[of_teacher + name].to(value), value)
            for name, value in teacher.state_dict().items()
        )
        if differs:
            warn_once(
                f"the checkpoint's {of_teacher.rstrip('.')} has other weights than the teacher "
                'that model.teacher gives, and takes its place. Remove its keys, or load the '
                'student alone, if it should not'
            )

"""What mmrazor's recorders record, made fit for losses."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.registry import DefaultScope
from torch import Tensor, nn

# Why a student's recorder recorded nothing.
UNLABELLED = (
    "the images have no labels, so the student ran in mode='tensor', without its loss. Give "
    'labels, or record what comes before the loss'
)
LEFT_BEHIND = (
    'its source did not run. A hook that puts another module in its place, such as '
    "SwitchRecipeHook's loss, leaves the recorder behind"
)


def build_recorders(config: dict):
    """A recorder manager of mmrazor, whatever the default scope is."""
    from mmrazor.models.task_modules import RecorderManager

    with DefaultScope.overwrite_default_scope('mmrazor'):
        return RecorderManager(config)


def recorders_read(distiller: nn.Module, from_student: bool) -> set[str]:
    """Names of the student's or the teacher's recorders that the losses of a distiller read."""
    return {
        record['recorder']
        for mapping in distiller.loss_forward_mappings.values()
        for record in mapping.values()
        if record['from_student'] == from_student
    }


def check_student_records(distiller: nn.Module, mode: str) -> None:
    """Raises RuntimeError where a loss would read what the student has not recorded.

    Args:
        distiller: a ``ConfigurableDistiller``, after the student has run.
        mode: the mode in which it ran, for the message.
    """
    for name in recorders_read(distiller, from_student=True):
        recorder = distiller.student_recorders.get_recorder(name)
        if not recorder.data_buffer:
            raise RuntimeError(
                f'student recorder {name!r} (source {recorder.source!r}) recorded nothing: '
                + (UNLABELLED if mode == 'tensor' else LEFT_BEHIND)
            )


def forbid_inplace(model: nn.Module) -> None:
    """Makes activations leave their input alone, which a recorder may hold."""
    for module in model.modules():
        if hasattr(module, 'inplace'):
            module.inplace = False


def trainable_record(record: Any) -> Any:
    """A record as losses and autograd take it: float32, contiguous, no inference tensor."""
    if isinstance(record, Tensor):
        dtype = torch.float32 if record.dtype in (torch.bfloat16, torch.float16) else record.dtype
        if record.dtype == dtype and not record.is_inference():
            return record
        return record.to(dtype, copy=True, memory_format=torch.contiguous_format)
    if isinstance(record, (list, tuple)):
        return type(record)(trainable_record(item) for item in record)
    if isinstance(record, dict):
        return {key: trainable_record(item) for key, item in record.items()}
    return record


def has_labels(data_samples: list | None) -> bool:
    """Whether data samples of OpenMMLab hold a ground truth, of whatever task."""
    if not data_samples:
        return False
    return any(name.lstrip('_').startswith('gt_') for name in data_samples[0].all_keys())

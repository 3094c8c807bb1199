"""The losses of a distiller, grouped by the logits that they read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from mmkendall.models.losses import DenseLogitLoss, KendallRankLoss
from mmkendall.models.losses.logit_losses import LOGIT_LOSSES


@dataclass
class Group:
    """The losses that read the same logits of the student, by name.

    Args:
        student, teacher: what ``get_record`` takes to give the logits, without a connector.
        dim: the dimension of the classes.
        logit: names of the logit losses.
        rank: the ranking losses, each with its mapping.
    """

    student: dict
    teacher: dict
    dim: int = 1
    logit: list[str] = field(default_factory=list)
    rank: dict[str, tuple[KendallRankLoss, Mapping]] = field(default_factory=dict)


def find_groups(losses: nn.ModuleDict, mappings: Mapping) -> dict[str, Group]:
    """The losses on logits by what they read of the student."""
    groups: dict[Any, Group] = {}
    for name, mapping in mappings.items():
        loss = losses[name]
        if isinstance(loss, DenseLogitLoss):
            raise ValueError(
                f'DistillDiagnosticsHook reads logits that are one tensor, and {name} is a '
                'DenseLogitLoss on several feature maps: remove the hook'
            )
        arguments = _arguments(loss)
        if arguments is None:
            continue
        student, teacher = (_without_connector(mapping[argument]) for argument in arguments)
        group = groups.setdefault(record_key(student), Group(student, teacher))
        if isinstance(loss, KendallRankLoss):
            group.rank[name] = (loss, mapping)
            group.dim = loss.dim
        else:
            group.logit.append(name)
    recorders = [group.student['recorder'] for group in groups.values()]
    return dict(zip(log_labels(recorders), groups.values(), strict=True))


def log_labels(names: Sequence[str]) -> list[str]:
    """Names for the log: no two alike, and none by which mmengine would average over lines."""
    labels: list[str] = []
    for name in names:
        label = re.sub('_?(loss|time|grad_norm)_?', '', name) or name[:1]
        labels.append(label if label not in labels else f'{label}_{len(labels)}')
    return labels


def _arguments(loss: nn.Module) -> tuple[str, str] | None:
    """What a loss calls the logits, if it is one on logits: also a subclass of one we know."""
    if isinstance(loss, KendallRankLoss):
        return 'preds_S', 'preds_T'
    kinds = [kind.__name__ for kind in type(loss).__mro__]
    return next((LOGIT_LOSSES[kind] for kind in kinds if kind in LOGIT_LOSSES), None)


def _without_connector(record: Mapping) -> dict:
    return {key: value for key, value in record.items() if not key.startswith('connector')}


def record_key(record: Mapping) -> frozenset:
    """What two entries of ``loss_forward_mappings`` share if they read the same."""
    return frozenset(record.items())

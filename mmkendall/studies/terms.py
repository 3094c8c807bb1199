"""The terms of an arm's loss, as a change of a distillation's config."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from mmengine.registry import MODELS, DefaultScope

OWN = 'own'
# The records that the methods of configs/_base_/methods share.
RECORDER = 'fc'
LOSSES = 'model.distiller.distill_losses'


def change_of(terms: Mapping[str, Any]) -> dict[str, Any]:
    """The change that puts terms in the place of a distillation's losses.

    Args:
        terms: by name, the config of a loss on logits; beside its own options it may have
            ``connector_S`` and ``connector_T``, the configs of what the student's and the
            teacher's logits go through first. ``own`` is the weight of the student's own loss.
            Labels are recorded for a loss that takes them.

    Returns:
        Nested dicts for a config with recorders ``fc``, as those of configs/_base_/methods.

    Raises:
        KeyError: there is no such loss.
        TypeError, ValueError: it does not take these options.
    """
    losses: dict[str, Any] = {'_delete_': True}
    mappings: dict[str, Any] = {'_delete_': True}
    distiller: dict[str, Any] = {'distill_losses': losses, 'loss_forward_mappings': mappings}
    connectors: dict[str, Any] = {}
    for name, entry in terms.items():
        if name == OWN:
            continue
        loss = dict(entry)
        mapping = {}
        for side in ('S', 'T'):
            connector = loss.pop(f'connector_{side}', None)
            record = dict(from_student=side == 'S', recorder=RECORDER)
            if connector is not None:
                record['connector'] = f'{name}_{side}'
                connectors[record['connector']] = connector
            mapping[side] = record
        losses[f'loss_{name}'] = loss
        mappings[f'loss_{name}'] = {}
        for parameter in _inputs(loss['type']):
            if parameter == 'gt_labels':
                distiller['student_recorders'] = dict(
                    gt_labels=dict(type='ModuleInputs', source='head.loss_module')
                )
                record = dict(from_student=True, recorder='gt_labels', data_idx=1)
            else:
                record = mapping[parameter[-1]]
            mappings[f'loss_{name}'][parameter] = record
        _try_to_build(json.dumps(loss))
    if connectors:
        distiller['connectors'] = connectors
    head = dict(head=dict(loss=dict(loss_weight=terms.get(OWN, 1.0))))
    return dict(model=dict(architecture=head, distiller=distiller))


@cache
def _try_to_build(loss: str) -> None:
    """Builds a loss, so that an option which it does not take ends a study before it starts.

    Args:
        loss: its config as JSON, as the arms of a study share most of theirs.
    """
    with DefaultScope.overwrite_default_scope('mmrazor'):
        MODELS.build(json.loads(loss))


@cache
def _inputs(kind: str) -> list[str]:
    """The names under which a loss takes both logits and, if it does, the labels."""
    with DefaultScope.overwrite_default_scope('mmrazor'):
        loss = MODELS.get(kind)
    if loss is None:
        raise KeyError(f'there is no loss {kind!r}')
    names = inspect.signature(loss.forward).parameters
    return [name for name in names if name[-2:] in ('_S', '_T') or name == 'gt_labels']


def path_of(name: str, terms: Mapping[str, Any]) -> str | None:
    """The config's path of ``TERM.OPTION`` or of ``own``; None if the name is neither."""
    term, dot, option = name.partition('.')
    if name == OWN and terms:
        return 'model.architecture.head.loss.loss_weight'
    return f'{LOSSES}.loss_{term}.{option}' if dot and term in terms else None

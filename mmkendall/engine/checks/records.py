"""Checks of what the losses of a distiller read, and of what they give."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmkendall.engine.checks.terms import PAIRS, is_logit_loss
from mmkendall.engine.errors import ConfigError
from mmkendall.models.losses import DenseLogitLoss, KendallRankLoss
from mmkendall.warn_once import warn_once

# Fewer live pairs than this teach next to nothing; a steepness is offered that leaves a quarter.
FEW_LIVE, ENOUGH_LIVE = 0.05, 0.25
# A pair is live while its factor 1 - tanh^2 in the gradient is above this.
LIVE = 1e-3
# What of a large batch is looked at.
MOST_ROWS, MOST_CLASSES = 32, 256


def describe(value: Any) -> str:
    """A record for a message."""
    if isinstance(value, Tensor):
        return f'a tensor {tuple(value.shape)}'
    if isinstance(value, Mapping):
        return f'a dict with {", ".join(map(str, value)) or "nothing"}'
    if isinstance(value, (list, tuple)):
        return f'a {type(value).__name__} of {len(value)}'
    return f'a {type(value).__name__}'


def check_records(distiller: nn.Module, read: dict[str, dict[str, Any]]) -> None:
    """Looks at the records of the first batch.

    Args:
        distiller: a ``ConfigurableDistiller``.
        read: what was read, after connectors, by loss and argument.

    Raises:
        ConfigError: no logits where logits are wanted, other classes on the two sides, a single
            class, or a NaN or an infinity of a teacher's.
    """
    for name, values in read.items():
        loss = distiller.distill_losses[name]
        mapping = distiller.loss_forward_mappings[name]
        for argument, value in values.items():
            if not mapping[argument]['from_student']:
                _check_teacher_finite(f'loss_forward_mappings.{name}.{argument}', value)
        if not is_logit_loss(loss):
            continue
        for pair in PAIRS:
            if all(argument in values for argument in pair):
                _check_logits(name, loss, mapping, values, pair)


def check_last_classes(
    distiller: nn.Module, read: dict[str, dict[str, Any]], results: dict[str, Tensor]
) -> None:
    """Raises ConfigError for a loss that is not finite because a teacher gives minus infinity.

    So a teacher says that a class is last: without a vote, or beyond the first K that were kept.

    Args:
        distiller: a ``ConfigurableDistiller``.
        read: what was read, after connectors, by loss and argument.
        results: what the losses gave, by name.
    """
    for name, values in read.items():
        result = results.get(name)
        if not isinstance(result, Tensor) or bool(result.isfinite().all()):
            continue
        mapping = distiller.loss_forward_mappings[name]
        logits = {
            argument: value
            for argument, value in values.items()
            if isinstance(value, Tensor) and value.is_floating_point()
        }
        last = [
            argument
            for argument, value in logits.items()
            if not mapping[argument]['from_student'] and bool((value == -math.inf).any())
        ]
        others = [value for argument, value in logits.items() if argument not in last]
        if last and all(bool(value.isfinite().all()) for value in others):
            loss = type(distiller.distill_losses[name]).__name__
            raise ConfigError(
                f'distill_losses.{name}, a {loss}, cannot take a teacher who says minus infinity '
                f'of classes that are last, as {", ".join(last)} does: put a '
                'mmkendall.OrderScores before it as the connector of the teacher, take a loss on '
                'the order or a KL divergence, or teacher logits that are finite'
            )


def check_results(distiller: nn.Module, results: dict[str, Tensor]) -> None:
    """Raises ConfigError for a loss from which no gradient goes to the student."""
    for name, value in results.items():
        loss = distiller.distill_losses[name]
        weight = getattr(loss, 'loss_weight', 1)
        still = isinstance(value, Tensor) and not value.requires_grad
        if still and weight and torch.is_grad_enabled():
            raise ConfigError(
                f'distill_losses.{name} would be logged and never trained: no gradient goes from '
                'it to the student. Look at what it records of the student: '
                f'{_sources(distiller, distiller.loss_forward_mappings[name])}'
            )


def _sources(distiller: nn.Module, mapping: Mapping) -> str:
    shown = [
        f'{argument} is {distiller.student_recorders.get_recorder(record["recorder"]).source}'
        for argument, record in mapping.items()
        if record['from_student']
    ]
    return ', '.join(shown) or 'nothing'


def _check_teacher_finite(where: str, value: Any) -> None:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return
    # Minus infinity is how a class that does not count is masked.
    bad = torch.isnan(value) | (value == float('inf'))
    # One image of a batch may be at fault itself, which a FiniteLossHook tells and can pass over.
    if value.dim() and len(value) and bad.reshape(len(value), -1).any(dim=1).all():
        raise ConfigError(
            f"{where}: {int(bad.sum())} of {value.numel()} of the teacher's values in the first "
            'batch are NaN or infinite. Is its checkpoint of a run that went wrong, or does its '
            'precision (teacher_dtype, --amp) not do?'
        )


def _check_logits(
    name: str, loss: nn.Module, mapping: Mapping, values: dict[str, Any], pair: tuple[str, str]
) -> None:
    dense = isinstance(loss, DenseLogitLoss)
    for argument in pair:
        _check_is_logits(
            f'loss_forward_mappings.{name}.{argument}', values[argument], mapping[argument], dense
        )
    if dense:
        if loss.num_classes == 1:
            raise ConfigError(_one_class(name, loss))
        return
    student, teacher = (values[argument] for argument in pair)
    dim = getattr(loss, 'dim', 1)
    if student.dim() < 2 or not -student.dim() <= dim < student.dim():
        return  # The loss itself says what shape it takes.
    if student.dim() == teacher.dim() and student.shape[dim] != teacher.shape[dim]:
        raise ConfigError(
            f'distill_losses.{name}: the student has {student.shape[dim]} classes '
            f'({describe(student)}) and the teacher {teacher.shape[dim]} ({describe(teacher)}): '
            "take a teacher of the student's classes, or pick them with a "
            "mmkendall.SelectClasses as the connector of the teacher's record"
        )
    if student.shape[dim] == 1:
        raise ConfigError(_one_class(name, loss))
    if isinstance(loss, KendallRankLoss) and student.shape == teacher.shape:
        _warn_if_dead(name, loss, student, teacher)


def _one_class(name: str, loss: nn.Module) -> str:
    return (
        f'distill_losses.{name}, a {type(loss).__name__}, is constant on a single logit: there '
        'is no order and no distribution of one class. Distil features, or give the head two '
        'logits'
    )


def _check_is_logits(where: str, value: Any, record: Mapping, dense: bool) -> None:
    if isinstance(value, Tensor):
        if value.is_floating_point():
            return
        raise ConfigError(f'{where} must be floating-point logits, got {value.dtype}')
    side = 'student_recorders' if record['from_student'] else 'teacher_recorders'
    recorder = f'recorder {record["recorder"]!r} of {side}'
    if isinstance(value, (list, tuple)):
        if dense and value and all(isinstance(item, Tensor) for item in value):
            return
        items = ', '.join(f'{index} is {describe(item)}' for index, item in enumerate(value[:4]))
        raise ConfigError(
            f'{where} must be a tensor, and {recorder} records {describe(value)}: name one of '
            f'them with data_idx; {items or "it is empty"}'
        )
    raise ConfigError(
        f'{where} must be a tensor, and {recorder} records {describe(value)}: record a module '
        'whose output is the logits, such as the last linear layer of the head'
    )


def _warn_if_dead(name: str, loss: KendallRankLoss, student: Tensor, teacher: Tensor) -> None:
    if loss.surrogate == 'logistic':
        return  # Its pairs in the wrong order always have a gradient.
    rows = [
        preds.detach().float().movedim(loss.dim, -1).flatten(0, -2) for preds in (student, teacher)
    ]
    if loss.across == 'batch':
        rows = [row.transpose(0, 1) for row in rows]
    kept = [
        slice(None, None, -(-size // most))
        for size, most in zip(rows[0].shape, (MOST_ROWS, MOST_CLASSES), strict=True)
    ]
    rows = [row[kept[0], kept[1]] for row in rows]
    if loss.standardize:
        rows = [
            (row - row.mean(1, keepdim=True)) / (row.std(1, keepdim=True, unbiased=False) + 1e-6)
            for row in rows
        ]
    if rows[0].shape[1] < 2 or not all(torch.isfinite(row).all() for row in rows):
        return
    of_student, of_teacher = (row[:, :, None] - row[:, None, :] for row in rows)
    above = torch.ones(of_student.shape[1:], dtype=torch.bool, device=student.device).triu(1)
    gaps = of_student[:, above]
    if loss.surrogate == 'diffkendall':
        gaps = gaps * of_teacher[:, above]

    def live(steepness: float) -> float:
        return (1 - torch.tanh(steepness * gaps) ** 2 > LIVE).float().mean().item()

    share = live(loss.steepness)
    if share >= FEW_LIVE:
        return
    steepness = loss.steepness
    while live(steepness) < ENOUGH_LIVE and steepness > 1e-6:
        steepness /= 2
    warn_once(
        f'distill_losses.{name}: at steepness {loss.steepness:g} only {share:.2%} of the pairs of '
        'classes give the student a gradient in the first batch, as the others lie too far '
        f'apart. A steepness of {float(f"{steepness:.1g}"):g} leaves {live(steepness):.0%}'
    )

"""A look at what the losses of a distiller read and give, while it computes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from mmkendall.engine.checks.explain import one_line
from mmkendall.engine.checks.records import (
    check_last_classes,
    check_records,
    check_results,
    describe,
)
from mmkendall.engine.errors import ConfigError


def watched(distiller: nn.Module, student_trains: bool) -> Callable[[], dict[str, Tensor]]:
    """``compute_distill_losses`` of a distiller with a look at what each loss reads and gives.

    Args:
        distiller: a ``ConfigurableDistiller``.
        student_trains: whether a loss without a gradient is one too many.

    Raises:
        ConfigError: when it is called; what is wrong with a record or a loss.
    """
    compute, get_record = distiller.compute_distill_losses, distiller.get_record

    def look_and_compute() -> dict[str, Tensor]:
        # In the order in which they are read.
        arguments = [
            (name, argument)
            for name, mapping in distiller.loss_forward_mappings.items()
            for argument in mapping
        ]
        read: dict[str, dict[str, Any]] = {}
        reading = iter(arguments)
        unread: list[tuple[str, str]] = []

        def keep(*args, **kwargs) -> Any:
            at = next(reading, None)
            if at is None:
                return get_record(*args, **kwargs)
            unread[:] = [at]
            value = get_record(*args, **kwargs)
            unread.clear()
            read.setdefault(at[0], {})[at[1]] = value
            return value

        put_back = put(distiller, 'get_record', keep)
        failure = None
        try:
            losses = compute()
        except Exception as error:
            failure = error
        finally:
            put_back()
        check_records(distiller, read)
        if failure is not None and unread:
            raise _no_record(distiller, *unread[0], failure) from failure
        if failure is not None:
            raise _no_loss(distiller, read, failure) from failure
        check_last_classes(distiller, read, losses)
        if student_trains:
            check_results(distiller, losses)
        return losses

    return look_and_compute


def put(module: nn.Module, name: str, value: Callable) -> Callable[[], None]:
    """Gives a module a function of its own, and returns what puts back the one it had before.

    That may be another look's, such as a DistillDiagnosticsHook's at the same iteration.
    """
    before = vars(module).get(name)
    setattr(module, name, value)

    def put_back() -> None:
        if before is None:
            delattr(module, name)
        else:
            setattr(module, name, before)

    return put_back


def _no_record(distiller: nn.Module, name: str, argument: str, failure: Exception) -> ConfigError:
    """Why an argument of a loss could not be read."""
    record = distiller.loss_forward_mappings[name][argument]
    side = 'student_recorders' if record['from_student'] else 'teacher_recorders'
    recorder = getattr(distiller, side).recorders[record['recorder']]
    where = f'loss_forward_mappings.{name}.{argument}'
    who = f'the recorder {record["recorder"]!r} ({recorder.source}) of {side}'
    buffer = recorder.data_buffer
    index, item = record.get('record_idx') or 0, record.get('data_idx')
    if not buffer:
        return ConfigError(
            f'{where}: {who} recorded nothing, as what it records is not called in a training '
            'step. Record another module'
        )
    if index >= len(buffer):
        return ConfigError(
            f'{where}.record_idx is {index}, and {who} recorded {len(buffer)} times, counted '
            'from 0'
        )
    value = buffer[index]
    if item is not None and not isinstance(value, (list, tuple)):
        return ConfigError(
            f'{where}.data_idx is {item}, and {who} records {describe(value)}: leave data_idx out'
        )
    if item is not None and item >= len(value):
        return ConfigError(f'{where}.data_idx is {item}, and {who} records {describe(value)}')
    through = f' through the connector {record["connector"]!r}' if record.get('connector') else ''
    return ConfigError(f'{where}: {describe(value)} does not go{through}: {one_line(failure)}')


def _no_loss(distiller: nn.Module, read: dict[str, dict], failure: Exception) -> ConfigError:
    """Why a loss could not be computed: the last one to read its arguments."""
    name, values = list(read.items())[-1] if read else ('of the distiller', {})
    shown = ', '.join(f'{argument} {describe(value)}' for argument, value in values.items())
    return ConfigError(
        f'distill_losses.{name} cannot be computed of {shown or "its records"}: '
        f'{one_line(failure)}'
    )

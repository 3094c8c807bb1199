"""Whether two checkpoints are of the same training, to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

from mmkendall.compat import safe_loading

# What a clock or a folder says.
OF_THE_CLOCK = ('time', 'data_time', 'cfg', 'experiment_name', 'last_ckpt', 'best_ckpt', 'memory')


def differences(one: Path, other: Path) -> list[str]:
    """Where two checkpoints differ: weights, averages, optimizer, schedules, generators, log.

    Args:
        one, other: checkpoints of ended trainings.
    """
    left, right = (safe_loading.load(path, map_location='cpu') for path in (one, other))
    return list(_differences('', left, right))


def count_tensors(path: Path) -> int:
    """How many tensors a checkpoint holds."""
    return sum(1 for _ in _tensors(_load(path)))


def _load(path: Path) -> dict:
    return safe_loading.load(path, map_location='cpu')


def _tensors(value):
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _differences(name: str, one, other):
    if isinstance(one, HistoryBuffer) and isinstance(other, HistoryBuffer):
        one, other = one._log_history, other._log_history
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one.keys() | other.keys():
            if str(key).rpartition('/')[2] in OF_THE_CLOCK:
                continue
            if key not in one or key not in other:
                yield f'{name}.{key} is in one alone'
            else:
                yield from _differences(f'{name}.{key}', one[key], other[key])
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            yield f'{name}: {len(one)} and {len(other)} entries'
        for index, pair in enumerate(zip(one, other, strict=False)):
            yield from _differences(f'{name}[{index}]', *pair)
    elif isinstance(one, torch.Tensor):
        if not torch.equal(one, other):
            yield f'{name}: {int((one != other).sum())} of {one.numel()} numbers'
    elif isinstance(one, np.ndarray):
        if not np.array_equal(one, other):
            yield f'{name}: {one} and {other}'
    elif one != other:
        yield f'{name}: {one} and {other}'

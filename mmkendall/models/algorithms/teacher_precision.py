"""In which precision a teacher runs, whatever that of the student is."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache

import torch

DTYPES = {name: getattr(torch, name) for name in ('float32', 'bfloat16', 'float16')}


def check_precision(dtype: str | None) -> None:
    """Raises ValueError for what no device can be asked for."""
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(
            f'teacher_dtype must be None or one of {", ".join(DTYPES)}, got {dtype!r}'
        )


def precision(device: str, dtype: str | None) -> AbstractContextManager:
    """Autocast of what runs inside to a type; None leaves everything as it is around it.

    Raises:
        ValueError: the device does not know the type.
    """
    if dtype is None:
        return nullcontext()
    if dtype == 'float32':
        return torch.autocast(device, enabled=False)
    check_autocast(device, dtype)
    return torch.autocast(device, dtype=DTYPES[dtype])


@cache
def check_autocast(device: str, dtype: str) -> None:
    """Raises ValueError if autocast to a type does nothing or fails, as in some older torch."""
    one = torch.ones(1, 1, device=device)
    try:
        with torch.autocast(device, dtype=DTYPES[dtype]):
            works = (one @ one).dtype == DTYPES[dtype]
    except RuntimeError:
        works = False
    if not works:
        raise ValueError(
            f'teacher_dtype {dtype!r} is not possible on {device} with torch '
            f"{torch.__version__}: use 'float32' or 'bfloat16'"
        )

"""What keeps a compiled backend from hurting a run under ``backend='auto'``.

A kernel that a device runs for the first time in a process, or a CPU loop that a process calls for
the first time, is first given a small batch, whose result is compared with that of torch
operations in float64. One that does not compile, raises or is off is reported once, and ``'auto'``
goes on without it until the process ends. Kernels that were asked for by name are not checked.
Loops are, for their code comes from the disk: one that is off raises an error.
"""

from __future__ import annotations

import warnings
from types import ModuleType

import torch
from torch import Tensor

# Ten times what the tests ask of the value and of the gradient beside its norm. Other hardware may
# round otherwise; a kernel that is wrong is off by far more.
VALUE_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4

# Enough for several blocks of classes, few enough to take no time.
NUM_CLASSES = 100

Kind = tuple  # Of a backend's name, what it runs there, the device and the surrogate.
_passed: set[Kind] = set()
_failed: dict[Kind, str] = {}


def failures() -> dict[Kind, str]:
    """What ``'auto'`` has to do without in this process, and why."""
    return _failed


def passes(kind: Kind, backend: ModuleType, steepness: float, device: torch.device) -> bool:
    """Whether a kind of kernel computes what torch computes. Known after the first call.

    Args:
        kind: what is checked.
        backend: the module that runs it.
        steepness: that of the loss, so that what is compiled here serves it, too.
        device: where to compute. In the middle of a CUDA graph's capture nothing can be compared:
            then the answer is yes, and the next call outside of one checks.
    """
    if kind in _passed:
        return True
    if kind in _failed:
        return False
    if device.type == 'cuda' and torch.cuda.is_current_stream_capturing():
        return True
    try:
        problem = _compare(backend, kind, steepness, device)
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # Triton and its compilers raise many kinds of their own.
        problem = in_one_line(error)
    if problem:
        report_failure(kind, problem)
        return False
    _passed.add(kind)
    return True


def report_failure(kind: Kind, problem: str) -> None:
    """Warns, and remembers that ``'auto'`` has to do without this kind from now on."""
    if kind in _failed:
        return
    _failed[kind] = problem
    name, part, device, surrogate = kind
    what = f'{name} ({part})' if part else name
    warnings.warn(
        f'kendall_rank_loss: backend {what} is left out on {device} for surrogate={surrogate!r}, '
        f"and backend='auto' takes torch operations there from now on: {problem}. "
        f'The results are right, and slower; `python -m mmkendall.compat` says what to report',
        RuntimeWarning,
        stacklevel=2,
    )


def in_one_line(error: Exception) -> str:
    """What went wrong, without the pages that a compiler prints.

    Triton says where in its first line and why in its last, others why in their first.
    """
    lines = [line.strip()[:200] for line in str(error).splitlines() if line.strip()]
    told = ' ... '.join(dict.fromkeys([lines[0], lines[-1]])) if lines else ''
    return f'{type(error).__name__}: {told}' if told else type(error).__name__


def _compare(
    backend: ModuleType, kind: Kind, steepness: float, device: torch.device
) -> str | None:
    """How the backend's result on a small batch differs from torch's, if it does."""
    _, part, _, surrogate = kind
    preds_S, preds_T = (logits.to(device) for logits in small_batch(steepness))
    loss, grad = backend.rank_loss(preds_S, preds_T, steepness, surrogate, True, algorithm=part)
    return difference(loss, grad, preds_S, preds_T, steepness, surrogate)


def difference(
    loss: Tensor,
    grad: Tensor,
    preds_S: Tensor,
    preds_T: Tensor,
    steepness: float,
    surrogate: str,
) -> str | None:
    """How a loss (N,) of logits (N, C) and its gradient differ from torch's, if they do."""
    from mmkendall.functional.backends import eager

    exact = preds_S.double(), preds_T.double()
    expected, expected_grad = eager.rank_loss(*exact, steepness, surrogate, True)
    # The loss is 2 at most, but for the logistic surrogate.
    off = ((loss - expected).abs() / (expected / 2).clamp(min=1)).max().item()
    if not off <= VALUE_TOLERANCE:
        return f'its loss is off by {off:.2g}, and {VALUE_TOLERANCE:g} is allowed'
    norm = expected_grad.norm().item()
    off = (grad - expected_grad).norm().item() / norm
    if not off <= GRADIENT_TOLERANCE:
        return (
            f'its gradient is off by {off:.2g} of its norm, and {GRADIENT_TOLERANCE:g} is allowed'
        )
    return None


def small_batch(steepness: float) -> tuple[Tensor, Tensor]:
    """Logits of student and teacher, float32 (4, 100), the same for a steepness each time.

    Their rows are narrow, wide, tied and one with an outlier, on the scale of 1 / steepness, so
    that every way that a kernel treats a pair is taken. No random state is touched.
    """
    index = torch.arange(NUM_CLASSES, dtype=torch.float64, device='cpu')
    waves = [torch.sin(index * factor) for factor in (1.0, 1.7, 2.3, 2.9)]
    student = torch.stack([4 * waves[0], 60 * waves[1], (3 * waves[2]).round(), 5 * waves[3]])
    teacher = torch.stack([4 * waves[1], 60 * waves[2], (3 * waves[3]).round(), 5 * waves[0]])
    teacher = teacher + 0.5 * student
    student[3, 7], teacher[3, 9] = 1000.0, -1000.0
    # Logits that float32 can hold at any steepness.
    scale = min(max(1 / steepness, 1e-30), 1e30)
    return (student * scale).float(), (teacher * scale).float()

"""Every parameter gets a gradient, though it be zero."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor


def use_all_parameters(losses: dict[str, Any], parameters: Iterable[Tensor]) -> None:
    """Adds nothing to a loss, by way of each parameter, in place.

    DistributedDataParallel stops at a parameter without a gradient: the distiller's once
    distillation has stopped or where no loss uses a connector, the student's where its own loss is
    left out. An empty slice sums up to 0, whatever the values are.

    Args:
        losses: the losses by name, each a tensor or a list of them.
        parameters: those that may be in none of the losses.

    Raises:
        RuntimeError: no loss is trained, which mmengine tells by its name.
    """
    trained = next((name for name in losses if 'loss' in name), None)
    if trained is None:
        raise RuntimeError(
            'nothing is left to train: calculate_student_loss is False, and distillation has '
            f'stopped or has no loss with "loss" in its name, got {", ".join(losses) or "none"}'
        )
    parameters = [p if p.dim() else p.reshape(1) for p in parameters if p.requires_grad]
    if parameters:
        nothing = sum(parameter[:0].sum() for parameter in parameters)
        loss = losses[trained]
        several = isinstance(loss, (list, tuple))
        losses[trained] = [loss[0] + nothing, *loss[1:]] if several else loss + nothing

"""What is recorded of several teachers, for a distiller that itself reads the records of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mmkendall.models.algorithms.records import (
    build_recorders,
    recorders_read,
    trainable_record,
)


class TeacherRecorders:
    """The recorders of each teacher.

    mmrazor's ``ConfigurableDistiller`` has one set of recorders for its teacher and computes its
    losses from what they hold. Here each teacher has a set of its own, and the losses are computed
    once for each set. With a single teacher the distiller's own set is used.

    Args:
        distiller: a ``ConfigurableDistiller``.
        teachers: the models to record. None where the logits come from a table: then the
            distiller's own recorders are only filled, and what they would record is not looked up.
        shared: config of the distiller's ``teacher_recorders``, for teachers without their own.
        own: for each teacher the config of its own recorders, or None.

    Attributes:
        delivers: whether ``distill_deliveries`` hand results of the teacher to the student.

    Raises:
        ValueError: recorders that the losses read are missing, or deliveries of several teachers.
    """

    def __init__(
        self,
        distiller: nn.Module,
        teachers: Sequence[nn.Module],
        shared: dict | None,
        own: Sequence[dict | None],
    ) -> None:
        self.distiller = distiller
        self.delivers = bool(distiller.deliveries.deliveries)
        if len(teachers) > 1 and self.delivers:
            raise ValueError('distill_deliveries need a single teacher, got several')
        self._managers = []
        for teacher, config in zip(teachers, own, strict=True):
            manager = distiller.teacher_recorders
            if config is not None or len(teachers) > 1:
                manager = self._build(config or shared or {})
            manager.initialize(teacher)
            self._managers.append(manager)
        self._managers = self._managers or [distiller.teacher_recorders]
        distiller.teacher_recorders = self._managers[0]

    def _build(self, config: dict):
        missing = self._names() - set(config)
        if missing:
            raise ValueError(
                'recorders of a teacher must have the names that the losses read: '
                f'{", ".join(sorted(missing))} missing, got {", ".join(config) or "none"}'
            )
        return build_recorders(config)

    def _names(self) -> set[str]:
        return recorders_read(self.distiller, from_student=False)

    def record(self, index: int, run: Callable[[], object]) -> None:
        """Records one teacher while it runs, in a form that losses and autograd accept.

        Args:
            index: which teacher.
            run: runs it once.

        Raises:
            RuntimeError: a recorder that the losses read recorded nothing.
        """
        manager = self._managers[index]
        # What is delivered enters the student's graph, where inference tensors are refused.
        frozen = torch.no_grad if self.delivers else torch.inference_mode
        with frozen(), manager, self.distiller.deliveries:
            run()
        for name in self._names():
            recorder = manager.get_recorder(name)
            if not recorder.data_buffer:
                raise RuntimeError(
                    f'teacher recorder {name!r} (source {recorder.source!r}) recorded nothing: '
                    "the teacher runs in mode='tensor', up to its logits and without a loss. "
                    'Record what comes before the loss; labels can be recorded from the student'
                )
            recorder.data_buffer[:] = [trainable_record(record) for record in recorder.data_buffer]

    def logit_recorder(self) -> str:
        """The name of the one recorder that the losses read.

        Raises:
            ValueError: they read several, or none.
        """
        names = self._names()
        if len(names) != 1:
            raise ValueError(
                'teacher_logits need losses that read exactly one teacher recorder, the one of '
                f'the logits; they read {", ".join(sorted(names)) or "none"}'
            )
        return names.pop()

    def logits(self, name: str) -> Tensor:
        """What a recorder holds of each teacher, (N, teachers, classes).

        Raises:
            ValueError: it is no (N, classes).
        """
        records = [manager.get_recorder(name).get_record_data() for manager in self._managers]
        for record in records:
            if not isinstance(record, Tensor) or record.dim() != 2:
                raise ValueError(
                    f'teacher recorder {name!r} must record logits of shape (N, classes) to be '
                    f'cached, got {tuple(getattr(record, "shape", ())) or type(record).__name__}'
                )
        return torch.stack(records, dim=1)

    def fill(self, name: str, logits: Tensor) -> None:
        """Puts logits (N, teachers, classes) where :meth:`record` would have put them."""
        for index, manager in enumerate(self._managers):
            recorder = manager.get_recorder(name)
            recorder.reset_data_buffer()
            recorder.data_buffer.append(logits[:, index].contiguous())

    def sources(self, name: str) -> list[str]:
        """Which part of each teacher a recorder records."""
        return [manager.get_recorder(name).source for manager in self._managers]

    def distill_losses(self, weights: Sequence[float]) -> dict[str, Tensor]:
        """The distiller's losses against each teacher, added up by weight."""
        if len(self._managers) == 1:
            return self.distiller.compute_distill_losses()
        total: dict[str, Tensor] = {}
        for manager, weight in zip(self._managers, weights, strict=True):
            self.distiller.teacher_recorders = manager
            for name, loss in self.distiller.compute_distill_losses().items():
                total[name] = total.get(name, 0) + weight * loss
        return total

from __future__ import annotations

import numbers

from mmengine.evaluator import Evaluator
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import ValLoop, autocast
from torch.utils.data import DataLoader

from mmkendall.registry import LOOPS

# Where the teachers' metrics are kept between validations, and in checkpoints.
MESSAGE = 'mmkendall_teacher_metrics'


@LOOPS.register_module()
class DistillValLoop(ValLoop):
    """Validates the student every time and its frozen teachers once.

    mmrazor's ``SingleTeacherDistillValLoop`` runs the teacher at each validation, with metrics
    that cannot change. Here they are computed at the first one and reported at all under
    ``teacher.``, or ``teacher0.``, ``teacher1.``, ... where there are several teachers. They are
    kept in the checkpoints of later epochs: a resumed run takes them from there, unless the
    teachers' weights or the number of validation images changed. Each teacher runs with its own
    precision, normalisation and input size. Hooks see the batches of the student alone.

    Args:
        runner: the runner, whose model is a ``mmkendall.LogitDistill``.
        dataloader: a dataloader or its config.
        evaluator: an evaluator or its config.
        fp16: validate the student in mixed precision. Defaults to False.

    Raises:
        TypeError: the model has no ``teacher_val_step``.

    Example:
        ::

            val_cfg = dict(type='mmkendall.DistillValLoop')
    """

    def __init__(
        self,
        runner,
        dataloader: DataLoader | dict,
        evaluator: Evaluator | dict | list,
        fp16: bool = False,
    ) -> None:
        super().__init__(runner, dataloader, evaluator, fp16)
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if not hasattr(model, 'teacher_val_step'):
            raise TypeError(
                'mmkendall.DistillValLoop needs a model of type mmkendall.LogitDistill, got '
                f'{type(model).__name__}'
            )
        self.model = model
        self._computed: dict[str, float] | None = None

    def run(self) -> dict:
        """Validates, and returns the metrics of the student and of its teachers."""
        self.runner.call_hook('before_val')
        self.runner.call_hook('before_val_epoch')
        self.runner.model.eval()
        for index, batch in enumerate(self.dataloader):
            self.run_iter(index, batch)
        metrics = self.evaluator.evaluate(len(self.dataloader.dataset))
        metrics.update(self.teacher_metrics())
        self.runner.call_hook('after_val_epoch', metrics=metrics)
        self.runner.call_hook('after_val')
        return metrics

    def teacher_metrics(self) -> dict:
        """The teachers' metrics: computed, or from before."""
        if self._computed is None:
            made_of = [*self.model.teacher_checksums(), len(self.dataloader.dataset)]
            kept = self.runner.message_hub.runtime_info.get(MESSAGE)
            if kept is not None and kept['made_of'] == made_of:
                self._computed = dict(kept['metrics'])
            else:
                self._computed = self._validate_teachers()
                self.runner.message_hub.update_info(
                    MESSAGE, {'made_of': made_of, 'metrics': dict(self._computed)}
                )
        return dict(self._computed)

    def _validate_teachers(self) -> dict:
        computed = {}
        number = len(self.model.teachers)
        for index in range(number):
            name = 'teacher' if number == 1 else f'teacher{index}'
            print_log(
                f'Validating the frozen {name} once: {len(self.dataloader)} batches', 'current'
            )
            for batch in self.dataloader:
                with autocast(enabled=self.fp16):
                    outputs = self.model.teacher_val_step(batch, index)
                self.evaluator.process(data_samples=outputs, data_batch=batch)
            metrics = self.evaluator.evaluate(len(self.dataloader.dataset))
            for key, value in metrics.items():
                # NumPy's numbers would need an exception where checkpoints are read.
                number_like = isinstance(value, numbers.Number)
                computed[f'{name}.{key}'] = float(value) if number_like else value
        return computed

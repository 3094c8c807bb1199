"""A look at the weights before the first iteration, and at what the losses read in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from mmengine.dataset import InfiniteSampler
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmkendall.engine.checks.teachers import check_class_names, check_picked_names, teachers_of
from mmkendall.engine.checks.watch import put, watched
from mmkendall.engine.errors import ConfigError
from mmkendall.models.algorithms.loading import check_finite


class FirstIteration(Hook):
    """Ends a run whose first batch shows that it cannot work, before the first step.

    The first forward is the run's own: nothing is computed twice, no random number drawn and no
    statistic touched for the checks. After it the hook does nothing.

    Args:
        of_teachers: the class names of each teacher's checkpoint, None for one that names none.

    Raises:
        ConfigError: what is wrong, in one sentence.
    """

    class Passed(BaseException):
        """The first batch has gone through the model, and no more was asked for."""

    def __init__(self, of_teachers: list[tuple[str, ...] | None]) -> None:
        self.of_teachers = of_teachers
        self.passed = False
        self.stop = False
        self._undo: list[Callable[[], None]] = []
        self._values_per_sample: dict[str, float] = {}

    def before_train(self, runner: Runner) -> None:
        """Once the weights are there: the teachers' are finite, and mean the data's classes."""
        model = _unwrapped(runner)
        if not isinstance(getattr(model, 'distiller', None), nn.Module):
            return
        for teacher in teachers_of(model):
            check_finite(teacher, 'teacher')
        dataset = runner.train_dataloader.dataset
        metainfo = getattr(dataset, 'metainfo', None)
        classes = metainfo.get('classes') if isinstance(metainfo, Mapping) else None
        check_class_names(runner.cfg, self.of_teachers, classes)
        check_picked_names(runner.cfg, model.distiller, classes)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Puts the looks into the first forward."""
        if self.passed or self._undo:
            return
        model = _unwrapped(runner)
        size = _num_samples(data_batch)
        for name, module in model.named_modules():
            if isinstance(module, _BatchNorm) and not isinstance(module, nn.SyncBatchNorm):
                handle = module.register_forward_pre_hook(self._count_values(name, size))
                self._undo.append(handle.remove)
        distiller = getattr(model, 'distiller', None)
        if hasattr(distiller, 'compute_distill_losses') and hasattr(distiller, 'get_record'):
            trains = getattr(model, 'student_trainable', True)
            look = watched(distiller, trains)
            if runner.cfg.get('compile'):
                look = torch.compiler.disable(look)  # A look is nothing to compile.
            self._undo.append(put(distiller, 'compute_distill_losses', look))

        def after_forward(module: nn.Module, inputs: tuple, outputs: Any) -> None:
            self._finish(runner)

        self._undo.append(runner.model.register_forward_hook(after_forward).remove)

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Takes the looks out, also of an algorithm that has a way of its own to train a step."""
        if not self.passed:
            self._finish(runner)

    def _finish(self, runner: Runner) -> None:
        for undo in self._undo:
            undo()
        self._undo.clear()
        self._check_last_batch(runner)
        self.passed = True
        if self.stop:
            raise FirstIteration.Passed

    def _count_values(self, name: str, size: int) -> Callable:
        def count(module: nn.Module, inputs: tuple) -> None:
            values = inputs[0]
            if module.training and isinstance(values, Tensor) and values.dim() > 1 and size:
                self._values_per_sample[name] = values.numel() / values.shape[1] / size

        return count

    def _check_last_batch(self, runner: Runner) -> None:
        """Raises ConfigError for a last batch in which BatchNorm sees one value per channel."""
        loader = runner.train_dataloader
        batches = getattr(loader, 'batch_sampler', None)
        size = getattr(batches, 'batch_size', None)
        try:
            samples = len(loader.sampler)
        except TypeError:
            return
        if not size or isinstance(loader.sampler, InfiniteSampler):
            return
        if samples % size != 1 or getattr(batches, 'drop_last', False):
            return
        if runner.max_iters < len(loader):
            return  # It ends before.
        alone = [name for name, count in self._values_per_sample.items() if count <= 1]
        if alone:
            ranks = f' in each of {runner.world_size} processes' if runner.distributed else ''
            raise ConfigError(
                f'the last batch of an epoch would hold a single image ({samples} images in '
                f'batches of {size}{ranks}), and BatchNorm ({alone[-1]}) cannot train on one '
                'value per channel: set train_dataloader.drop_last=True, or another '
                'train_dataloader.batch_size'
            )


def _unwrapped(runner: Runner) -> nn.Module:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def _num_samples(batch: Any) -> int:
    """How many images a batch has."""
    samples = batch.get('data_samples', batch.get('inputs')) if isinstance(batch, dict) else batch
    try:
        return len(samples)
    except TypeError:
        return 0

from __future__ import annotations

import math
from numbers import Integral, Real

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import IterBasedTrainLoop, Runner

from mmkendall.models.losses import KendallRankLoss
from mmkendall.registry import HOOKS

SCHEDULES = ('constant', 'linear_warmup', 'linear_decay', 'cosine_decay', 'first', 'last')


@HOOKS.register_module()
class RankWeightSchedule(Hook):
    r"""Lets the weight of the ranking loss change over a training, and logs it.

    The ``loss_weight`` of every ``KendallRankLoss`` in the model, which in a
    ``RankAugmentedDistiller`` is relative to that of the logit loss, is multiplied at iteration i
    of a length of n by

    ===================  ===========================================================
    ``'constant'``       1
    ``'linear_warmup'``  :math:`\min((i + 1) / n, 1)`
    ``'linear_decay'``   :math:`1 - (1 - f) \min(i / n, 1)`, f the ``final_factor``
    ``'cosine_decay'``   :math:`f + (1 - f) (1 + \cos(\pi \min(i / n, 1))) / 2`
    ``'first'``          1 while i < n, then 0
    ``'last'``           0 but for the last n iterations of the training, then 1
    ===================  ===========================================================

    The factor is computed from the runner's iteration, so a resumed run goes on where it was. The
    present weight is logged as ``rank_weight``, or as ``rank_weight_NAME`` for several ranking
    losses. After the training the losses have their own weight again.

    Args:
        schedule: one of the names above. Defaults to ``'constant'``.
        epochs: the length n in epochs, for a loop that counts epochs; 0.5 is half of one. Defaults
            to None.
        iters: the length n in iterations. Defaults to None. With neither, the length is that of
            the training, but ``'first'`` and ``'last'`` need one.
        final_factor: f, at least 0 and below 1; for the decays alone. Defaults to 0.

    Raises:
        ValueError: options that make no sense, when it is built; a length in epochs in a loop that
            counts iterations, a length beyond the training, or a model without a ranking loss,
            when the training starts.

    Example::

        custom_hooks = [
            dict(type='mmkendall.RankWeightSchedule', schedule='cosine_decay', epochs=150)]
    """

    def __init__(
        self,
        schedule: str = 'constant',
        epochs: float | None = None,
        iters: int | None = None,
        final_factor: float = 0.0,
    ) -> None:
        if schedule not in SCHEDULES:
            raise ValueError(f'schedule must be one of {SCHEDULES}, got {schedule!r}')
        if epochs is not None and iters is not None:
            raise ValueError(f'pass epochs or iters, not both, got {epochs} and {iters}')
        for name, value, kind in (('epochs', epochs, Real), ('iters', iters, Integral)):
            if value is not None and not _is_positive(value, kind):
                raise ValueError(f'{name} must be positive, got {value!r}')
        has_length = epochs is not None or iters is not None
        if schedule == 'constant' and has_length:
            raise ValueError("a 'constant' schedule has no epochs or iters")
        if schedule in ('first', 'last') and not has_length:
            raise ValueError(
                f'schedule={schedule!r} needs epochs or iters: how long the loss is on'
            )
        if not isinstance(final_factor, Real) or not 0 <= final_factor < 1:
            raise ValueError(f'final_factor must be at least 0 and below 1, got {final_factor!r}')
        if final_factor and not schedule.endswith('_decay'):
            raise ValueError(f'final_factor is for the decays, not for {schedule!r}')
        self.schedule = schedule
        self.epochs = epochs
        self.iters = iters
        self.final_factor = final_factor

    def before_train(self, runner: Runner) -> None:
        """Finds the ranking losses, and how long the schedule is in iterations."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        losses = {
            # The one inside a DenseLogitLoss has that one's name.
            name.removesuffix('.loss').rpartition('.')[2]: module
            for name, module in model.named_modules()
            if isinstance(module, KendallRankLoss)
        }
        if not losses:
            raise ValueError('RankWeightSchedule found no mmkendall.KendallRankLoss in the model')
        self.length = self._length(runner)
        self.begin_of_last = runner.max_iters - self.length
        if len(losses) == 1:
            self.losses = {'rank_weight': losses.popitem()[1]}
        else:
            self.losses = {f'rank_weight_{name}': loss for name, loss in losses.items()}
        self.full_weights = {name: loss.loss_weight for name, loss in self.losses.items()}

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        """Sets and logs the weight of this iteration."""
        factor = self.factor(runner.iter)
        for name, loss in self.losses.items():
            loss.loss_weight = factor * self.full_weights[name]
            runner.message_hub.update_scalar(f'train/{name}', loss.loss_weight)

    def after_train(self, runner: Runner) -> None:
        """Gives the losses their own weight again."""
        for name, loss in self.losses.items():
            loss.loss_weight = self.full_weights[name]

    def factor(self, iteration: int) -> float:
        """The factor at an iteration, counted from 0, once the training has started."""
        if self.schedule == 'constant':
            return 1.0
        if self.schedule == 'first':
            return float(iteration < self.length)
        if self.schedule == 'last':
            return float(iteration >= self.begin_of_last)
        if self.schedule == 'linear_warmup':
            return min((iteration + 1) / self.length, 1.0)
        done = min(iteration / self.length, 1.0)
        left = 1 - done if self.schedule == 'linear_decay' else (1 + math.cos(math.pi * done)) / 2
        return self.final_factor + (1 - self.final_factor) * left

    def _length(self, runner: Runner) -> float:
        if self.epochs is None:
            length = self.iters or runner.max_iters
        elif isinstance(runner.train_loop, IterBasedTrainLoop):
            raise ValueError(
                f'RankWeightSchedule has epochs={self.epochs}, and the '
                f'{type(runner.train_loop).__name__} counts iterations: pass iters'
            )
        else:
            length = self.epochs * runner.max_iters / runner.max_epochs
        if length > runner.max_iters:
            raise ValueError(
                f'RankWeightSchedule is {length:g} iterations long, longer than the training of '
                f'{runner.max_iters}'
            )
        return length


def _is_positive(value: float, kind: type) -> bool:
    number = isinstance(value, kind) and not isinstance(value, bool)
    return number and math.isfinite(value) and value > 0

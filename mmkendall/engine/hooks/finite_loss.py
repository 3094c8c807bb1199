from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import chain, islice

import torch
import torch.distributed as dist
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import Tensor, nn

from mmkendall.registry import HOOKS

ACTIONS = ('stop', 'skip')


class NonFiniteError(FloatingPointError):
    """A loss or weights that are NaN or infinite, with a message that says where and when."""


def is_finite(value) -> bool:
    """Whether a tensor of floating-point numbers has no NaN and no infinity; True for others."""
    if not isinstance(value, Tensor) or not (value.is_floating_point() or value.is_complex()):
        return True
    return bool(torch.isfinite(value).all())


def describe(value: Tensor) -> str:
    """The range of a tensor, and how much of it is NaN or infinite."""
    value = value.detach().float().flatten()
    finite = value[torch.isfinite(value)]
    text = f'{value.numel()} values'
    if finite.numel() < value.numel():
        nan = int(torch.isnan(value).sum())
        text += f', {nan} NaN, {value.numel() - finite.numel() - nan} infinite'
    if finite.numel():
        text += f', the finite ones from {float(finite.min()):.4g} to {float(finite.max()):.4g}'
    return text


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stops a training whose loss became NaN or infinite, or skips that step and goes on.

    A single such step makes every trained weight NaN, and without this hook a run goes on so to
    its end. What is said names the iteration, the terms of the loss, and the range of the
    images, of what the student and the teacher recorded for the distiller, and of the weights
    that are not finite. All processes decide alike, whichever of them it happened to.

    ``'stop'`` looks at the terms right after the iteration, before they are logged and before
    anything is saved. ``'skip'`` looks at the loss before the backward pass and, if it is not
    finite, leaves the pass and the optimizer's step out, puts the model's buffers (BatchNorm's
    statistics have seen the batch) back to what they were before the iteration, logs the number
    of steps left out so far as ``skipped_steps`` and keeps the terms out of the log's averages.
    With gradient accumulation the whole step that the batch belongs to is left out. A training
    in which no step can come right any more stops all the same.

    A gradient that overflows under mixed precision is no such case: the scaler of the loss deals
    with it by itself, and this hook does not look at gradients.

    Cost: on an accelerator one small kernel and one wait for its result each iteration. With
    ``'stop'`` that wait is one that mmengine's logging would make a moment later anyway; with
    ``'skip'`` it stands before the backward pass, which then is not queued ahead, and the buffers
    are copied. With several processes one number is reduced over them besides.

    Args:
        action: ``'stop'`` or ``'skip'``. Defaults to ``'stop'``.
        max_skips: how many iterations in a row may be skipped; the next one stops the training.
            Defaults to 20.

    Raises:
        ValueError: an unknown action, or ``max_skips`` that is no positive integer.
        NonFiniteError: in the training; see above. Before it, for a weight that is not finite.

    Example::

        default_hooks = dict(finite_loss=dict(type='mmkendall.FiniteLossHook', action='skip'))
    """

    # Before the hook that logs the losses.
    priority = 'HIGHEST'

    def __init__(self, action: str = 'stop', max_skips: int = 20) -> None:
        if action not in ACTIONS:
            raise ValueError(f'action must be one of {ACTIONS}, got {action!r}')
        if not isinstance(max_skips, int) or isinstance(max_skips, bool) or max_skips < 1:
            raise ValueError(f'max_skips must be a positive integer, got {max_skips!r}')
        self.action = action
        self.max_skips = max_skips
        self.in_a_row = 0

    def before_train(self, runner: Runner) -> None:
        """Looks at the weights, and at each step from now on if steps may be skipped."""
        self.model = unwrap(runner.model)
        bad = [name for name, weight in self.model.named_parameters() if not is_finite(weight)]
        if bad:
            raise NonFiniteError(
                f'{len(bad)} parameters are NaN or infinite before the training starts: '
                f'{", ".join(bad[:3])}{", ..." if len(bad) > 3 else ""}. Look at the checkpoint '
                'that they came from'
            )
        self.skipped = False
        if self.action == 'skip':
            for wrapper in optim_wrappers(runner.optim_wrapper):
                if not isinstance(wrapper, OptimWrapper):
                    raise ValueError(
                        "FiniteLossHook(action='skip') needs optimizers in an OptimWrapper, got "
                        f"a {type(wrapper).__name__}: use action='stop'"
                    )
                self._guard(wrapper)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        """Keeps the buffers as they are, for a step that may be skipped."""
        if self.action == 'skip':
            self.skipped = False
            self.kept = [
                (buffer, buffer.clone())
                for module in self.model.modules()
                if module.training  # Those of a frozen teacher cannot change.
                for buffer in module.buffers(recurse=False)
            ]

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs: dict | None = None
    ) -> None:
        """Looks at the terms of the loss, or reports the step that was skipped."""
        terms = {
            name: value.detach()
            for name, value in (outputs or {}).items()
            if 'loss' in name and isinstance(value, Tensor)
        }
        if self.action == 'stop':
            if terms and not self._all_finite(list(terms.values())):
                raise NonFiniteError(
                    self._report(runner, terms, data_batch) + '. The run stops, and nothing of '
                    'this iteration is saved; with FiniteLossHook(action="skip") such a step '
                    'is left out and the run goes on'
                )
            return
        if not self.skipped:
            self.in_a_row = 0
            return
        report = self._report(runner, terms, data_batch)
        for buffer, kept in self.kept:
            buffer.copy_(kept)
        self.in_a_row += 1
        bad = [name for name, weight in self.model.named_parameters() if not is_finite(weight)]
        if bad or self.in_a_row > self.max_skips:
            why = 'weights are not finite' if bad else f'{self.in_a_row} steps in a row were so'
            raise NonFiniteError(f'{report}. No step can be skipped any more: {why}')
        hub = runner.message_hub
        # The number goes into checkpoints, so a resumed run counts on.
        total = hub.get_info('skipped_steps', 0) + 1
        hub.update_info('skipped_steps', total)
        hub.update_scalar('train/skipped_steps', total)
        outputs.clear()  # One NaN would be the average of the log's whole window.
        print_log(f'{report}. The step is skipped, {total} so far', 'current', logging.WARNING)

    def _guard(self, wrapper: OptimWrapper) -> None:
        """Lets a wrapper leave out the steps to which a loss that is not finite belongs."""
        update_params = wrapper.update_params
        left_out = False

        def update_finite_params(loss: Tensor, *args, **kwargs) -> None:
            nonlocal left_out
            if not self._all_finite([loss.detach()]):
                left_out = self.skipped = True
            if not left_out:
                update_params(loss, *args, **kwargs)
                return
            # Counts as an iteration, so that accumulated steps end where they would.
            wrapper._inner_count += 1
            if wrapper.should_update():
                wrapper.zero_grad()
                left_out = False

        wrapper.update_params = update_finite_params

    @staticmethod
    def _all_finite(values: list[Tensor]) -> bool:
        """Whether they are finite, here and in all other processes."""
        finite = torch.stack([value.isfinite().all() for value in values]).all()
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            number = finite.to(torch.int32)
            dist.all_reduce(number, op=dist.ReduceOp.MIN)
            finite = number
        return bool(finite)

    def _report(self, runner: Runner, terms: dict[str, Tensor], data_batch) -> str:
        """One sentence: when, which terms, and what went into them."""
        bad = [f'{name} = {float(value)}' for name, value in terms.items() if not is_finite(value)]
        where = f'iteration {runner.iter + 1} (epoch {runner.epoch + 1})'
        if not bad:
            return f'the loss is not finite at {where} in another process, whose log says more'
        parts = [f'{name}: {describe(tensor)}' for name, tensor in self._tensors(data_batch)]
        return f'the loss is not finite at {where}: {", ".join(bad)} ({"; ".join(parts)})'

    def _tensors(self, data_batch) -> Iterator[tuple[str, Tensor]]:
        """What the loss was computed from, by name."""
        inputs = data_batch.get('inputs') if isinstance(data_batch, dict) else None
        if isinstance(inputs, list | tuple) and all(isinstance(item, Tensor) for item in inputs):
            inputs = torch.cat([item.detach().float().flatten() for item in inputs])
        if isinstance(inputs, Tensor):
            yield 'images', inputs
        distiller = getattr(self.model, 'distiller', None)
        for side in ('student', 'teacher'):
            manager = getattr(distiller, f'{side}_recorders', None)
            for name, recorder in getattr(manager, 'recorders', {}).items():
                for record in recorder.data_buffer:
                    if isinstance(record, Tensor) and record.is_floating_point():
                        yield f'{side} record {name}', record
        if self.action == 'skip':  # After a step with such a loss all of them are NaN.
            named = chain(self.model.named_parameters(), self.model.named_buffers())
            yield from islice(((name, value) for name, value in named if not is_finite(value)), 3)


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside a wrapper, such as that of distributed training."""
    return model.module if is_model_wrapper(model) else model


def optim_wrappers(optim_wrapper: OptimWrapper | OptimWrapperDict) -> list[OptimWrapper]:
    """The wrappers of all optimizers, usually one."""
    if isinstance(optim_wrapper, OptimWrapperDict):
        return list(optim_wrapper.optim_wrappers.values())
    return [optim_wrapper]

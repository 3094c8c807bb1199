from __future__ import annotations

import sys
from collections.abc import Callable
from numbers import Integral

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor

from mmkendall.engine.distill_figures import Seen, group_figures
from mmkendall.engine.logit_groups import Group, find_groups, record_key
from mmkendall.models.losses.logit_losses import LOGIT_LOSSES
from mmkendall.registry import HOOKS


@HOOKS.register_module()
class DistillDiagnosticsHook(Hook):
    r"""Logs what the logit loss and the ranking loss do to the student's logits.

    Every ``interval`` iterations, from the batch and the losses of that iteration:

    =========================  ==================================================================
    ``diag/tau``               Kendall's tau-b between student and teacher over the classes of an
                               image, the mean of the images: the true coefficient, ties and all
    ``diag/live_pairs``        share of the pairs of classes that still get a gradient from the
                               ranking loss (:func:`mmkendall.functional.pair_shares`)
    ``diag/live_wrong_pairs``  the same share of the pairs that the student has the wrong way
                               round; NaN where it has none
    ``diag/low_half_logit``    share of the logit loss's gradient, by absolute value, that goes to
                               the half of the classes that the teacher thinks least likely
    ``diag/low_half_rank``     the same of the ranking loss's gradient
    ``diag/norm_ratio``        norm of the ranking loss's gradient over that of the logit loss's
    =========================  ==================================================================

    Gradients are with respect to the student's recorded logits, before any connector, of the terms
    as they are trained: with their weights, warm-ups and AMP's loss scale. A figure that the
    config has no loss for is left out. Several ranking losses have their names, without ``loss_``,
    behind the two shares of pairs, several recorders of logits theirs behind every figure. With
    several teachers the gradients are those of the weighted mean, and the other figures are
    weighted means.

    The figures go through mmengine's message hub into the log line, TensorBoard and wandb; they
    are of the main process's batch, as its losses are. A line between two measurements repeats the
    last one. Nothing that is trained is computed otherwise, and no random number is drawn, so
    the weights are those of a run without the hook. (Under ``torch.compile`` the iterations that
    measure compute the losses without it, equal up to rounding.)

    Args:
        interval: iterations between measurements; that of the ``LoggerHook`` is a good choice.
            Defaults to 50.

    Raises:
        ValueError: an interval that is no positive whole number, when it is built; a model without
            a distiller or without a loss that it knows, or a loss on several feature maps at
            once, when the training starts.
        TypeError: a recorder that recorded no tensor, at the first measurement.

    Cost:
        Of a measurement: the gradient of the losses once more, from the logits only, an exact tau,
        and a look at no more than 2**24 pairs of classes, of rows (and beyond 2,048 classes,
        of classes) that are evenly spaced. docs/diagnostics.md says what that takes.

    Example::

        custom_hooks = [dict(type='mmkendall.DistillDiagnosticsHook', interval=50)]
    """

    def __init__(self, interval: int = 50) -> None:
        whole = isinstance(interval, Integral) and not isinstance(interval, bool)
        if not whole or interval < 1:
            raise ValueError(f'interval must be a positive whole number, got {interval!r}')
        self.interval = interval

    def before_train(self, runner: Runner) -> None:
        """Finds the losses on logits and what they read."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self.distiller = getattr(model, 'distiller', None)
        losses = getattr(self.distiller, 'distill_losses', None)
        if losses is None or not hasattr(self.distiller, 'get_record'):
            raise ValueError(
                'DistillDiagnosticsHook needs a model with a ConfigurableDistiller, and this is a '
                f'{type(model).__name__}: remove the hook'
            )
        self.model = model
        self.groups = find_groups(losses, self.distiller.loss_forward_mappings)
        if not self.groups:
            found = ', '.join(f'{name} ({type(loss).__name__})' for name, loss in losses.items())
            raise ValueError(
                'DistillDiagnosticsHook found no loss on logits that it knows: KendallRankLoss, '
                f'{", ".join(LOGIT_LOSSES)}; the model has {found or "none"}. Remove the hook'
            )
        self._logged: set[str] = set()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        """Lets the distiller be watched for one iteration."""
        if not self.every_n_train_iters(runner, self.interval) or not is_main_process():
            return
        distiller = self.distiller
        get_record, compute_losses = distiller.get_record, distiller.compute_distill_losses
        scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
        self._scale = scaler.get_scale() if hasattr(scaler, 'get_scale') else 1.0
        self._calls: list[dict[str, Seen]] = []
        read = {}

        def watched_record(**record):
            read[record_key(record)] = value = get_record(**record)
            return value

        def watched_losses():
            losses = compute_losses()
            self._calls.append(
                {name: self._look(group, losses, read) for name, group in self.groups.items()}
            )
            return losses

        distiller.get_record = watched_record
        distiller.compute_distill_losses = _uncompiled(watched_losses)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs=None
    ) -> None:
        """Logs what was seen; takes the figures out of the log once nothing is distilled."""
        if not self.every_n_train_iters(runner, self.interval) or not is_main_process():
            return
        del self.distiller.get_record, self.distiller.compute_distill_losses
        hub = runner.message_hub
        calls, self._calls = self._calls, []
        figures = self._figures(calls) if calls else {}
        for name in self._logged - figures.keys():
            # A line would else repeat them to the end of the run.
            hub.log_scalars.pop(f'train/{name}', None)
        self._logged = set(figures)
        for name, value in figures.items():
            hub.update_scalar(f'train/{name}', value, resumed=False)

    def _look(self, group: Group, losses: dict[str, Tensor], read: dict) -> Seen:
        """The logits of one call for the losses, and the gradients of its terms."""
        get_record = type(self.distiller).get_record
        preds_S, preds_T = (
            get_record(self.distiller, **record) for record in (group.student, group.teacher)
        )
        for preds, record in ((preds_S, group.student), (preds_T, group.teacher)):
            if not isinstance(preds, Tensor):
                raise TypeError(
                    f'DistillDiagnosticsHook needs logits in one tensor, and recorder '
                    f'{record["recorder"]!r} recorded a {type(preds).__name__}'
                )
        ranked = {
            name: (
                loss,
                *(
                    read[record_key(mapping[argument])].detach() if argument in mapping else None
                    for argument in ('preds_S', 'preds_T', 'mask', 'class_mask')
                ),
            )
            for name, (loss, mapping) in group.rank.items()
        }
        return Seen(
            preds_S.detach(),
            preds_T.detach(),
            self._gradient([losses[name] for name in group.logit], preds_S),
            self._gradient([losses[name] for name in group.rank], preds_S),
            ranked,
        )

    def _gradient(self, terms: list[Tensor], preds_S: Tensor) -> Tensor | None:
        """Of the sum of terms, by autograd alone: nothing reaches a parameter."""
        terms = [term.mean() for term in terms if term.requires_grad]
        if not terms or not preds_S.requires_grad:
            return None
        total = sum(terms)
        with torch.autocast(preds_S.device.type, enabled=False):
            (gradient,) = torch.autograd.grad(
                total,
                preds_S,
                torch.full_like(total, self._scale),
                retain_graph=True,
                allow_unused=True,
            )
        return None if gradient is None else gradient.double() / self._scale

    def _figures(self, calls: list[dict[str, Seen]]) -> dict[str, float]:
        """The figures of all groups, read from the device in one go."""
        weights = getattr(self.model, 'teacher_weights', [])
        if len(weights) != len(calls):
            weights = [1 / len(calls)] * len(calls)
        figures = {}
        for name, group in self.groups.items():
            suffix = f'_{name}' if len(self.groups) > 1 else ''
            seen = [call[name] for call in calls]
            for figure, value in group_figures(group, seen, weights).items():
                figures[f'diag/{figure}{suffix}'] = value
        values = torch.stack([value.double() for value in figures.values()]).tolist()
        return dict(zip(figures, values, strict=True))


def _uncompiled(function: Callable) -> Callable:
    """Keeps torch.compile away from a function; where it is not in use there is nothing to do."""
    if 'torch._dynamo' in sys.modules and hasattr(torch, 'compiler'):
        return torch.compiler.disable(function)
    return function

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, NamedTuple

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from mmkendall.functional import kendall_tau, pair_shares
from mmkendall.functional.classes import counted_classes
from mmkendall.functional.rank_loss import ranked_rows
from mmkendall.models.losses import DenseLogitLoss, KendallRankLoss
from mmkendall.models.losses.logit_losses import LOGIT_LOSSES
from mmkendall.registry import HOOKS

# Pairs looked at in one measurement: all of a batch of 256 with 100 classes, 16 rows with 1,000.
MAX_PAIRS = 1 << 24
MAX_CLASSES = 2048


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
        self.groups = _find_groups(losses, self.distiller.loss_forward_mappings)
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
        self._calls: list[dict[str, _Seen]] = []
        read = {}

        def watched_record(**record):
            read[_key(record)] = value = get_record(**record)
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

    def _look(self, group: _Group, losses: dict[str, Tensor], read: dict) -> _Seen:
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
                    read[_key(mapping[argument])].detach() if argument in mapping else None
                    for argument in ('preds_S', 'preds_T', 'mask', 'class_mask')
                ),
            )
            for name, (loss, mapping) in group.rank.items()
        }
        return _Seen(
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

    def _figures(self, calls: list[dict[str, _Seen]]) -> dict[str, float]:
        """The figures of all groups, read from the device in one go."""
        weights = getattr(self.model, 'teacher_weights', [])
        if len(weights) != len(calls):
            weights = [1 / len(calls)] * len(calls)
        figures = {}
        for name, group in self.groups.items():
            suffix = f'_{name}' if len(self.groups) > 1 else ''
            seen = [call[name] for call in calls]
            for figure, value in _group_figures(group, seen, weights).items():
                figures[f'diag/{figure}{suffix}'] = value
        values = torch.stack([value.double() for value in figures.values()]).tolist()
        return dict(zip(figures, values, strict=True))


@dataclass
class _Group:
    """The losses that read the same logits of the student, by name.

    Args:
        student, teacher: what ``get_record`` takes to give the logits, without a connector.
        dim: the dimension of the classes.
        logit: names of the logit losses.
        rank: the ranking losses, each with its mapping.
    """

    student: dict
    teacher: dict
    dim: int = 1
    logit: list[str] = field(default_factory=list)
    rank: dict[str, tuple[KendallRankLoss, Mapping]] = field(default_factory=dict)


class _Seen(NamedTuple):
    """What one call for the losses showed, for one group."""

    student: Tensor
    teacher: Tensor
    grad_logit: Tensor | None
    grad_rank: Tensor | None
    ranked: dict[str, tuple]


def _find_groups(losses: nn.ModuleDict, mappings: Mapping) -> dict[str, _Group]:
    """The losses on logits by what they read of the student."""
    groups: dict[Any, _Group] = {}
    for name, mapping in mappings.items():
        loss = losses[name]
        if isinstance(loss, DenseLogitLoss):
            raise ValueError(
                f'DistillDiagnosticsHook reads logits that are one tensor, and {name} is a '
                'DenseLogitLoss on several feature maps: remove the hook'
            )
        arguments = _arguments(loss)
        if arguments is None:
            continue
        student, teacher = (_without_connector(mapping[argument]) for argument in arguments)
        group = groups.setdefault(_key(student), _Group(student, teacher))
        if isinstance(loss, KendallRankLoss):
            group.rank[name] = (loss, mapping)
            group.dim = loss.dim
        else:
            group.logit.append(name)
    recorders = [group.student['recorder'] for group in groups.values()]
    return dict(zip(_labels(recorders), groups.values(), strict=True))


def _labels(names: Sequence[str]) -> list[str]:
    """Names for the log, each another, without what makes mmengine average over lines."""
    labels: list[str] = []
    for name in names:
        label = re.sub('_?(loss|time|grad_norm)_?', '', name) or name[:1]
        labels.append(label if label not in labels else f'{label}_{len(labels)}')
    return labels


def _arguments(loss: nn.Module) -> tuple[str, str] | None:
    """What a loss calls the logits, if it is one on logits: also a subclass of one we know."""
    if isinstance(loss, KendallRankLoss):
        return 'preds_S', 'preds_T'
    kinds = [kind.__name__ for kind in type(loss).__mro__]
    return next((LOGIT_LOSSES[kind] for kind in kinds if kind in LOGIT_LOSSES), None)


def _without_connector(record: Mapping) -> dict:
    return {key: value for key, value in record.items() if not key.startswith('connector')}


def _key(record: Mapping) -> frozenset:
    return frozenset(record.items())


def _group_figures(
    group: _Group, seen: list[_Seen], weights: Sequence[float]
) -> dict[str, Tensor]:
    """Figures of one group from its calls, one a teacher, whose weights add up to 1."""
    figures = {}
    taus = [
        kendall_tau(
            one.student,
            one.teacher,
            dim=group.dim,
            class_mask=counted_classes(one.student, one.teacher),
        ).nanmean()
        for one in seen
    ]
    figures['tau'] = _weighted(taus, weights)
    for name, label in zip(group.rank, _labels(list(group.rank)), strict=True):
        shares = [_pair_figures(*one.ranked[name]) for one in seen]
        suffix = f'_{label}' if len(group.rank) > 1 else ''
        for figure, values in zip(
            ('live_pairs', 'live_wrong_pairs'), zip(*shares, strict=True), strict=True
        ):
            figures[figure + suffix] = _weighted(values, weights)
    norms = {}
    for kind in ('logit', 'rank'):
        gradients = [getattr(one, f'grad_{kind}') for one in seen]
        if any(gradient is None for gradient in gradients):
            continue
        gradients = [weight * grad for weight, grad in zip(weights, gradients, strict=True)]
        low = sum(
            _low_half(gradient, one.teacher, group.dim)
            for gradient, one in zip(gradients, seen, strict=True)
        )
        figures[f'low_half_{kind}'] = low / sum(gradient.abs().sum() for gradient in gradients)
        norms[kind] = sum(gradients).norm()
    if len(norms) == 2:
        figures['norm_ratio'] = norms['rank'] / norms['logit']
    return figures


def _weighted(values: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    return sum(weight * value for weight, value in zip(weights, values, strict=True))


def _low_half(gradient: Tensor, preds_T: Tensor, dim: int) -> Tensor:
    """The absolute gradient on the half of the classes that the teacher puts lowest."""
    lowest = preds_T.topk(preds_T.shape[dim] // 2, dim=dim, largest=False).indices
    return gradient.abs().gather(dim, lowest).sum()


def _pair_figures(
    loss: KendallRankLoss,
    preds_S: Tensor,
    preds_T: Tensor,
    mask: Tensor | None,
    class_mask: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Shares of live pairs, of all pairs and of the wrong ones, as the loss ranks the logits."""
    preds_S, preds_T, dim = preds_S.float(), preds_T.float(), loss.dim % preds_S.dim()
    if loss.across == 'batch':
        # The images are ranked, class by class: they are the columns, and the classes the rows.
        if class_mask is not None and class_mask.dim() == 2:
            hidden, class_mask = ~class_mask, None
            preds_S, preds_T = (
                preds.masked_fill(hidden, -math.inf) for preds in (preds_S, preds_T)
            )
        dim, mask, class_mask = 0, class_mask, mask
    options = (loss.topk, loss.mink, loss.standardize)
    rows_S, rows_T = ranked_rows(preds_S, preds_T, dim, mask, class_mask, *options)
    has_pairs = counted_classes(rows_S, rows_T).sum(dim=1) > 1
    rows_S, rows_T = rows_S[has_pairs], rows_T[has_pairs]
    step = math.ceil(rows_S.shape[1] / MAX_CLASSES) or 1
    rows_S, rows_T = rows_S[:, ::step], rows_T[:, ::step]
    num_rows = max(1, MAX_PAIRS // max(1, rows_S.shape[1] ** 2))
    step = math.ceil(len(rows_S) / num_rows) or 1
    shares = pair_shares(rows_S[::step], rows_T[::step], loss.steepness, loss.surrogate)
    return shares.live.mean(), shares.wrong_live.sum() / shares.wrong.sum()


def _uncompiled(function: Callable) -> Callable:
    """Keeps torch.compile away from a function; where it is not in use there is nothing to do."""
    if 'torch._dynamo' in sys.modules and hasattr(torch, 'compiler'):
        return torch.compiler.disable(function)
    return function

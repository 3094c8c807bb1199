"""What gradient the losses give in a real training: to which classes, and to which wrong pairs.

    python tools/analysis_tools/loss_gradients.py CONFIG
    python tools/analysis_tools/loss_gradients.py CONFIG --checkpoint CHECKPOINT

CONFIG, a distillation of a classifier, is trained as it stands, and the logits of student and
teacher are kept for the training batches of some iterations; with ``--checkpoint`` nothing is
trained, and they are those of the first batch under its weights. Every loss is then asked for its
gradient on the same logits, whether CONFIG has it or not. Two tables, their figures and a summary:

``gradient_shares.csv``
    By iteration and loss: ``decile`` of the classes in each image by the teacher's probability
    (1 the most probable), ``probability``, their mean probability, ``share`` of the gradient's
    absolute value that they get, and ``tau``, Kendall's tau between the size of the gradient and
    the teacher's probability over the classes of an image, mean of the images.
``wrong_pairs.csv``
    By iteration, surrogate and steepness: ``wrong``, the share of the pairs of classes that the
    student has the other way round than the teacher, and ``live``, the share of those that get
    more than ``--threshold`` of the largest gradient that the pair could get.
``gradient_summary.csv``
    What of both is printed, in percent: ``lower_half``, the share of the gradient that the lower
    five deciles get, ``tau``, ``wrong`` and ``live``.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from mmkendall import compat

compat.apply()

from analysis import (  # noqa: E402
    distillation,
    parser_of_config,
    run,
    save,
    save_table,
    style,
    told,
)
from matplotlib.figure import Figure  # noqa: E402
from mmengine.hooks import Hook  # noqa: E402
from mmengine.runner import Runner  # noqa: E402
from torch import Tensor  # noqa: E402

from mmkendall.engine.distill_config import (  # noqa: E402
    ConfigError,
    build_runner,
    config_first,
    train,
)
from mmkendall.engine.logit_groups import find_groups  # noqa: E402
from mmkendall.engine.protected_run import add_guards  # noqa: E402
from mmkendall.functional import (  # noqa: E402
    SURROGATES,
    kd_loss,
    kendall_rank_loss,
    kendall_tau,
    listmle_loss,
    pair_shares,
    pearson_loss,
)

DECILES = 10
TEMPERATURES = (1, 4, 8)
STEEPNESSES = (1, 10, 100)
PAIR_STEEPNESSES = (0.3, 0.5, 1, 2, 3, 5, 10, 20, 30, 50, 100)
# Lines of the figure of the shares; the table has all losses.
SHOWN = {
    'KL, T = 1': 'C0-',
    'KL, T = 4': 'C0--',
    'ListMLE': 'C7-',
    'product, k = 1': 'C1-',
    'product, k = 10': 'C1--',
    'product, k = 100': 'C1:',
    'hard_teacher, k = 10': 'C2--',
    'diffkendall, k = 1': 'C3-',
}


@dataclass(frozen=True)
class Moment:
    """What one training batch showed.

    Args:
        iteration: how many steps were taken before.
        student, teacher: logits (N, C), float64.
    """

    iteration: int
    student: Tensor
    teacher: Tensor


class KeepLogits(Hook):
    """Keeps the logits that the losses read, at some iterations of a training.

    Args:
        at: shares of the training, 0 its first iteration and 1 its last.
    """

    def __init__(self, at: Sequence[float]) -> None:
        self.at = at
        self.moments: list[Moment] = []

    def before_train(self, runner: Runner) -> None:
        self.distiller = distiller = runner.model.distiller
        teachers = len(getattr(runner.model, 'teacher_weights', [1]))
        groups = find_groups(distiller.distill_losses, distiller.loss_forward_mappings)
        if len(groups) != 1 or teachers > 1:
            raise ConfigError(
                'the losses must read one pair of logits, of the student and of one teacher; '
                f'model.distiller has {len(groups)} and the model {teachers} teachers'
            )
        (self.group,) = groups.values()
        self.iterations = {round(share * (runner.max_iters - 1)) for share in self.at}

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if runner.iter not in self.iterations:
            return
        compute = self.distiller.compute_distill_losses

        def keep_and_compute() -> dict[str, Tensor]:
            records = (self.group.student, self.group.teacher)
            logits = [self.distiller.get_record(**record) for record in records]
            self.moments.append(Moment(runner.iter, *(_checked(each) for each in logits)))
            return compute()

        self.distiller.compute_distill_losses = keep_and_compute

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if runner.iter in self.iterations:
            del self.distiller.compute_distill_losses


def _checked(logits: Tensor) -> Tensor:
    if logits.dim() != 2 or logits.shape[1] < DECILES or not logits.isfinite().all():
        raise ConfigError(
            f'logits must be finite and of shape (N, C) with {DECILES} classes at least, for '
            f'deciles of the classes; got {tuple(logits.shape)}, '
            f'{int(logits.isfinite().sum())} of {logits.numel()} finite'
        )
    return logits.detach().double().cpu()


def all_losses() -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """The losses that are asked for their gradient, by name."""
    losses: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        f'KL, T = {temperature}': partial(kd_loss, temperature_S=temperature)
        for temperature in TEMPERATURES
    }
    losses['ListMLE'] = listmle_loss
    losses['Pearson'] = pearson_loss
    for surrogate in SURROGATES:
        for steepness in STEEPNESSES:
            losses[f'{surrogate}, k = {steepness}'] = partial(
                kendall_rank_loss, steepness=steepness, surrogate=surrogate
            )
    return losses


def gradient_rows(moment: Moment) -> list[dict[str, Any]]:
    """A row a loss and decile."""
    teacher = moment.teacher
    num_classes = teacher.shape[1]
    order = teacher.argsort(dim=1, descending=True, stable=True)
    probability = teacher.softmax(dim=1).gather(1, order).mean(dim=0)
    # Place 0 is the most probable class; deciles of C classes differ by one class at most.
    deciles = [[place for place in range(num_classes) if place * DECILES // num_classes == decile]
               for decile in range(DECILES)]  # fmt: skip
    rows = []
    for name, loss in all_losses().items():
        student = moment.student.clone().requires_grad_()
        loss(student, teacher).backward()
        size = student.grad.abs()
        by_place = size.gather(1, order).sum(dim=0)
        tau = kendall_tau(size, teacher).nanmean().item()
        for decile, places in enumerate(deciles):
            rows.append(
                {
                    'iteration': moment.iteration,
                    'loss': name,
                    'decile': decile + 1,
                    'probability': probability[places].mean().item(),
                    'share': (by_place[places].sum() / by_place.sum()).item(),
                    'tau': tau,
                }
            )
    return rows


def pair_rows(moment: Moment, threshold: float) -> list[dict[str, Any]]:
    """A row a surrogate and steepness."""
    rows = []
    for surrogate in SURROGATES:
        for steepness in PAIR_STEEPNESSES:
            shares = pair_shares(
                moment.student, moment.teacher, steepness, surrogate, threshold=threshold
            )
            wrong = shares.wrong.sum()
            rows.append(
                {
                    'iteration': moment.iteration,
                    'surrogate': surrogate,
                    'steepness': steepness,
                    'wrong': shares.wrong.mean().item(),
                    'live': (shares.wrong_live.sum() / wrong).item(),
                }
            )
    return rows


def figure_of_shares(rows: Sequence[dict[str, Any]]) -> Figure:
    """A panel a moment, a line a loss."""
    iterations = sorted({row['iteration'] for row in rows})
    figure = Figure(figsize=(1.2 + 2.4 * len(iterations), 3.6), layout='constrained')
    panels = figure.subplots(1, len(iterations), sharey=True, squeeze=False)[0]
    for axes, iteration in zip(panels, iterations, strict=True):
        for name, line in SHOWN.items():
            found = [row for row in rows if (row['iteration'], row['loss']) == (iteration, name)]
            axes.plot([row['decile'] for row in found], [100 * row['share'] for row in found],
                      line, label=name)  # fmt: skip
        axes.set_title(f'after {iteration} steps', fontsize=9)
        axes.set_xticks([1, 5, 10])
        axes.set_yscale('log')
        axes.set_xlabel("decile of the teacher's\nprobability, 1 the highest")
    panels[0].set_ylabel('share of the gradient, %')
    panels[-1].legend(fontsize=7, loc='center left', bbox_to_anchor=(1, 0.5))
    return figure


def figure_of_pairs(rows: Sequence[dict[str, Any]], threshold: float) -> Figure:
    """A panel a surrogate, a line a moment."""
    surrogates = list(dict.fromkeys(row['surrogate'] for row in rows))
    iterations = sorted({row['iteration'] for row in rows})
    figure = Figure(figsize=(1.5 + 2.6 * len(surrogates), 3.2), layout='constrained')
    panels = figure.subplots(1, len(surrogates), sharey=True, squeeze=False)[0]
    for axes, surrogate in zip(panels, surrogates, strict=True):
        for iteration in iterations:
            here = (iteration, surrogate)
            found = [row for row in rows if (row['iteration'], row['surrogate']) == here]
            axes.plot([row['steepness'] for row in found], [100 * row['live'] for row in found],
                      'o-', ms=3, label=f'after {iteration} steps')  # fmt: skip
        axes.set_title(surrogate, fontsize=9)
        axes.set_xscale('log')
        axes.set_xlabel('steepness k')
        axes.set_ylim(-3, 103)
    panels[0].set_ylabel(f'wrong pairs with more than\n{threshold:.0%} of their gradient, %')
    panels[-1].legend(fontsize=7, loc='center left', bbox_to_anchor=(1, 0.5))
    return figure


def summary(
    shares: Sequence[dict[str, Any]], pairs: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The main figures of both tables, a row an iteration and loss, shares in percent."""
    rows = []
    for iteration, name in dict.fromkeys((row['iteration'], row['loss']) for row in shares):
        found = [row for row in shares if (row['iteration'], row['loss']) == (iteration, name)]
        lower = sum(row['share'] for row in found if row['decile'] > DECILES // 2)
        here = [row for row in pairs if row['iteration'] == iteration]
        live = [
            row['live'] for row in here if f'{row["surrogate"]}, k = {row["steepness"]}' == name
        ]
        rows.append(
            {
                'iteration': iteration,
                'loss': name,
                'lower_half': 100 * lower,
                'tau': found[0]['tau'],
                'wrong': 100 * here[0]['wrong'],
                'live': 100 * live[0] if live else math.nan,
            }
        )
    return rows


def report(rows: Sequence[dict[str, Any]]) -> str:
    """The summary, as lines."""
    by_iteration: dict[int, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row['iteration']):
        by_iteration.setdefault(row['iteration'], []).append(row)
    heads = ''.join(f'{f"after {iteration}":>14}' for iteration in by_iteration)
    lines = [
        "share of the gradient of the lower five deciles, tau with the teacher's probability",
        f'{"steps":<24}{heads}',
    ]
    columns = list(zip(*by_iteration.values(), strict=True))
    for each in columns:
        cells = [f'{row["lower_half"]:.1f} % {row["tau"]:+.2f}'.rjust(14) for row in each]
        lines.append(f'{each[0]["loss"]:<24}{"".join(cells)}')
    lines += [
        '',
        f'{"wrong pairs":<24}' + ''.join(f'{row["wrong"]:>12.1f} %' for row in columns[0]),
        'of them with a gradient',
    ]
    for each in columns:
        if not math.isnan(each[0]['live']):
            cells = [f'{row["live"]:>12.1f} %' for row in each]
            lines.append(f'{each[0]["loss"]:<24}{"".join(cells)}')
    return '\n'.join(lines)


def moments_of(args: argparse.Namespace) -> list[Moment]:
    """Trains, or looks at the first batch under the weights of a checkpoint."""
    cfg = distillation(args)
    add_guards(cfg)
    # A look at what the losses read is nothing to compile.
    cfg.pop('compile', None)
    if args.checkpoint is not None:
        cfg.load_from, cfg.resume = args.checkpoint, False
    runner = build_runner(cfg, complete=True if args.checkpoint else None)
    hook = KeepLogits([0] if args.checkpoint else args.at)
    runner.register_hook(hook)
    train(runner, stop_after_first=args.checkpoint is not None)
    return hook.moments


def analyse() -> None:
    parser = parser_of_config(__doc__.split('\n')[0])
    parser.add_argument(
        '--checkpoint', help='of this training: look at its weights, and train nothing'
    )
    parser.add_argument(
        '--at', nargs='+', type=float, default=[0, 0.06, 0.25, 0.5, 1], metavar='SHARE',
        help='when logits are kept, 0 the first iteration and 1 the last',
    )  # fmt: skip
    parser.add_argument(
        '--threshold', type=float, default=0.01, help='share of the largest gradient of a pair'
    )
    args = parser.parse_args(config_first(sys.argv[1:]))
    if not all(0 <= share <= 1 for share in args.at):
        raise ConfigError(f'--at takes shares of the training from 0 to 1, got {args.at}')
    if not 0 < args.threshold < 1:
        raise ConfigError(f'--threshold must lie between 0 and 1, got {args.threshold}')
    moments = moments_of(args)
    shares = [row for moment in moments for row in gradient_rows(moment)]
    pairs = [row for moment in moments for row in pair_rows(moment, args.threshold)]
    save_table(shares, args.out / 'gradient_shares.csv')
    save_table(pairs, args.out / 'wrong_pairs.csv')
    main_figures = summary(shares, pairs)
    save_table(main_figures, args.out / 'gradient_summary.csv')
    with style():
        save(figure_of_shares(shares), args.out / 'gradient_shares.svg')
        save(figure_of_pairs(pairs, args.threshold), args.out / 'wrong_pairs.svg')
    print(told())
    print(report(main_figures))


def main() -> int:
    return run('loss_gradients.py', analyse)


if __name__ == '__main__':
    sys.exit(main())

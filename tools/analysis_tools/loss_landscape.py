"""The training loss around a trained student, in two random directions with filter normalisation.

    python tools/analysis_tools/loss_landscape.py CONFIG CHECKPOINT

CONFIG is the distillation that CHECKPOINT comes from. The student's weights w are moved to
w + a d + b e on a grid, and the loss of CONFIG, and each of its terms, is computed on the same
training batches. As in Li et al., "Visualizing the Loss Landscape of Neural Nets", NeurIPS 2018,
each filter of d and e has the norm of the student's own filter, and biases and the weights of
normalisation layers stay. BatchNorm takes the statistics of the batch, as in training, so that
those of the student itself do not stand beside weights that they do not belong to; dropout is off.

``loss_landscape.csv`` has ``a``, ``b``, the terms and their sum ``loss``;
``landscape_summary.csv`` each term in the middle and its mean at two distances from it.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Sequence
from typing import Any

from mmkendall import compat

compat.apply()

import numpy as np  # noqa: E402
import torch  # noqa: E402
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
from mmengine.runner import Runner  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn.modules.batchnorm import _BatchNorm  # noqa: E402

from mmkendall.engine.distill_config import (  # noqa: E402
    ConfigError,
    build_runner,
    config_first,
)
from mmkendall.studies.worker import load_weights, student_of  # noqa: E402


def direction(student: nn.Module, generator: torch.Generator) -> list[Tensor]:
    """A random direction, filter by filter as long as the student's weights."""
    found = []
    for weights in student.parameters():
        if weights.dim() < 2:
            found.append(torch.zeros_like(weights))
            continue
        drawn = torch.randn(weights.shape, generator=generator).to(weights)
        norms = [torch.linalg.vector_norm(each.flatten(1), dim=1) for each in (weights, drawn)]
        ratio = norms[0] / norms[1]
        found.append(drawn * ratio.reshape(-1, *[1] * (weights.dim() - 1)))
    return found


def batch_statistics(student: nn.Module) -> None:
    """Everything as in a test, but BatchNorm normalises by the batch and keeps nothing of it."""
    student.eval()
    for module in student.modules():
        if isinstance(module, _BatchNorm):
            module.train()
            module.momentum = 0.0


@torch.no_grad()
def landscape(
    runner: Runner, places: Sequence[float], num_batches: int, seed: int
) -> list[dict[str, float]]:
    """A row a point of the grid: the terms of the loss, means over the batches."""
    model = runner.model.eval()
    student = student_of(model)
    batch_statistics(student)
    batches = [
        model.data_preprocessor(batch, True)
        for batch in itertools.islice(runner.train_dataloader, num_batches)
    ]
    generator = torch.Generator().manual_seed(seed)
    weights = [each.clone() for each in student.parameters()]
    directions = [direction(student, generator) for _ in range(2)]
    rows = []
    for a, b in itertools.product(places, places):
        for now, was, d, e in zip(student.parameters(), weights, *directions, strict=True):
            now.copy_(was + a * d + b * e)
        found: list[dict[str, float]] = []
        for batch in batches:
            total, terms = model.parse_losses(model(**batch, mode='loss'))
            losses = {name: float(value) for name, value in terms.items() if 'loss' in name}
            found.append({**losses, 'loss': float(total)})
        means = {name: float(np.mean([each[name] for each in found])) for name in found[0]}
        rows.append({'a': a, 'b': b, **means})
    return rows


def grid_of(rows: Sequence[dict[str, float]], name: str, points: int) -> np.ndarray:
    """(points, points), b down and a across."""
    return np.array([row[name] for row in rows]).reshape(points, points).T


def figure_of(rows: Sequence[dict[str, float]], places: Sequence[float]) -> Figure:
    """A panel for the loss and for each of its terms."""
    names = [name for name in rows[0] if name not in ('a', 'b')]
    figure = Figure(figsize=(3.2 * len(names), 3.2), layout='constrained')
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        values = grid_of(rows, name, len(places))
        levels = np.geomspace(max(values.min(), 1e-3 * values.max()), values.max(), 12)
        lines = axes.contour(places, places, values, levels=levels, cmap='viridis', linewidths=1)
        axes.clabel(lines, fontsize=6, fmt='%.2g')
        axes.plot(0, 0, '+', color='C3')
        axes.set_title(f'{name}, {values[len(places) // 2, len(places) // 2]:.3g} in the middle',
                       fontsize=9)  # fmt: skip
        axes.set_aspect('equal')
        axes.set_xlabel('a')
    panels[0].set_ylabel('b')
    return figure


def summary(rows: Sequence[dict[str, float]], reach: float) -> list[dict[str, Any]]:
    """A row a term: its value in the middle, and its mean at two distances from it."""
    steps = sorted({row['a'] for row in rows})
    # Points of the grid lie half a spacing off on the dot, which rounding must not decide.
    tolerance = 0.5001 * (steps[1] - steps[0])
    found = []
    for name in [name for name in rows[0] if name not in ('a', 'b')]:
        values = {'middle': next(row[name] for row in rows if row['a'] == row['b'] == 0)}
        for share in (0.5, 1):
            near = [
                row[name]
                for row in rows
                if abs(math.hypot(row['a'], row['b']) - share * reach) <= tolerance
            ]
            values[f'at {share * reach:.2g}'] = float(np.mean(near))
        found.append({'term': name, **values})
    return found


def report(rows: Sequence[dict[str, Any]]) -> str:
    """The summary, as lines."""
    names = [name for name in rows[0] if name != 'term']
    lines = [f'{"":<24}' + ''.join(f'{name:>10}' for name in names)]
    for row in rows:
        lines.append(f'{row["term"]:<24}' + ''.join(f'{row[name]:>10.3f}' for name in names))
    return '\n'.join(lines)


def analyse() -> None:
    parser = parser_of_config(__doc__.split('\n')[0])
    parser.add_argument('checkpoint', help='of the training that the config describes')
    parser.add_argument('--reach', type=float, default=1.0, help='of a and b, to both sides')
    parser.add_argument('--points', type=int, default=15, help='of a side of the grid, odd')
    parser.add_argument('--batches', type=int, default=4, help='training batches')
    parser.add_argument('--seed', type=int, default=0, help='of the directions')
    args = parser.parse_args(config_first(sys.argv[1:]))
    if args.points < 5 or args.points % 2 == 0:
        raise ConfigError(
            f'--points must be odd, so that the student is one of them, and 5 at least, got '
            f'{args.points}'
        )
    if args.batches < 1 or not 0 < args.reach < math.inf:
        raise ConfigError(
            f'--batches must be 1 at least and --reach above 0, got {args.batches} and '
            f'{args.reach}'
        )
    cfg = distillation(args)
    cfg.load_from, cfg.resume = args.checkpoint, False
    runner = build_runner(cfg, complete=True)
    load_weights(runner)
    half = args.points // 2
    places: list[Any] = [args.reach * step / half for step in range(-half, half + 1)]
    rows = landscape(runner, places, args.batches, args.seed)
    save_table(rows, args.out / 'loss_landscape.csv')
    main_figures = summary(rows, args.reach)
    save_table(main_figures, args.out / 'landscape_summary.csv')
    with style():
        save(figure_of(rows, places), args.out / 'loss_landscape.svg')
    print(told())
    print(report(main_figures))


def main() -> int:
    return run('loss_landscape.py', analyse)


if __name__ == '__main__':
    sys.exit(main())

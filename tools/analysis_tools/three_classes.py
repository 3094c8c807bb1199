"""Where the losses lead a student of three classes: their surfaces, gradients and optima.

    python tools/analysis_tools/three_classes.py

With three classes the logits up to a shift are a plane, that of the differences s1 - s2 and
s2 - s3, and the teacher is one point of it. ``three_classes.csv`` has, by loss and by the point
that gradient descent started at, where it ended: the differences, the loss, whether the order is
the teacher's, the distance from the teacher, and the norm of the gradient there. ``at_teacher`` is
the norm of the gradient at the teacher's own logits, 0 where those are an optimum. The figure
shows each loss, the direction of its descent, and the paths.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

from mmkendall import compat

compat.apply()

import torch  # noqa: E402
from analysis import add_out, run, save, save_table, style, told  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from torch import Tensor  # noqa: E402

from mmkendall.engine.distill_config import ConfigError  # noqa: E402
from mmkendall.functional import SURROGATES, kd_loss, kendall_rank_loss  # noqa: E402

# The teacher's differences, so that its logits are 1.5, 0.5, -0.5 up to a shift.
TEACHER = (1.0, 1.0)
STARTS = ((0.0, 0.0), (-2.0, -2.0), (3.0, -2.5), (-2.5, 3.0), (0.2, -0.6), (3.0, 3.0))
REACH = 4.0

Loss = Callable[[Tensor], Tensor]


def logits(differences: Tensor) -> Tensor:
    """(N, 3) of mean 0 from (N, 2), which are s1 - s2 and s2 - s3."""
    first, second = differences.unbind(dim=1)
    middle = (second - first) / 3
    return torch.stack([middle + first, middle, middle - second], dim=1)


def differences(scores: Tensor) -> Tensor:
    """(..., 2) from logits, or from steps of theirs, (..., 3)."""
    return scores[..., :2] - scores[..., 1:]


def all_losses(steepnesses: Sequence[float]) -> dict[str, Loss]:
    """Losses (N,) of logits (N, 3), by name."""
    teacher = logits(torch.tensor([TEACHER], dtype=torch.float64))

    def kl(scores: Tensor) -> Tensor:
        return kd_loss(scores, teacher.expand_as(scores), 1.0, reduction='none')

    def rank(steepness: float, surrogate: str) -> Loss:
        return lambda scores: kendall_rank_loss(
            scores, teacher.expand_as(scores), steepness, surrogate, 'none', backend='eager'
        )

    losses: dict[str, Loss] = {'KL': kl}
    for surrogate in SURROGATES:
        for steepness in steepnesses:
            losses[f'{surrogate}, k = {steepness:g}'] = rank(steepness, surrogate)
    for steepness in steepnesses:
        ranking = rank(steepness, 'product')
        losses[f'KL + product, k = {steepness:g}'] = lambda scores, ranking=ranking: (
            kl(scores) + ranking(scores)
        )
    return losses


def gradient(loss: Loss, scores: Tensor) -> Tensor:
    """(N, 3): of the loss by the logits."""
    scores = scores.detach().clone().requires_grad_()
    loss(scores).sum().backward()
    return scores.grad


def descend(loss: Loss, steps: int, rate: float) -> Tensor:
    """(steps + 1, N, 2): paths of gradient descent on the logits, from the starts."""
    scores = logits(torch.tensor(STARTS, dtype=torch.float64))
    path = [differences(scores)]
    for _ in range(steps):
        scores = scores - rate * gradient(loss, scores)
        path.append(differences(scores))
    return torch.stack(path)


def rows_of(name: str, loss: Loss, path: Tensor) -> list[dict[str, Any]]:
    """A row a start."""
    teacher = logits(torch.tensor([TEACHER], dtype=torch.float64))
    at_teacher = gradient(loss, teacher).norm().item()
    ends = path[-1]
    left = gradient(loss, logits(ends)).norm(dim=1)
    values = loss(logits(ends))
    return [
        {
            'loss': name,
            'start_12': start[0],
            'start_23': start[1],
            'end_12': end[0].item(),
            'end_23': end[1].item(),
            'value': value.item(),
            'same_order': int(bool((end > 0).all())),
            'from_teacher': math.dist(end.tolist(), TEACHER),
            'gradient': norm.item(),
            'at_teacher': at_teacher,
        }
        for start, end, value, norm in zip(STARTS, ends, values, left, strict=True)
    ]


def draw(axes: Axes, name: str, loss: Loss, path: Tensor) -> None:
    """The surface, the directions of descent where there is any, and the paths."""
    line = torch.linspace(-REACH, REACH, 61, dtype=torch.float64)
    across, up = torch.meshgrid(line, line, indexing='xy')
    points = torch.stack([across.flatten(), up.flatten()], dim=1)
    values = loss(logits(points)).reshape(61, 61)
    axes.contourf(line, line, values, levels=12, cmap='Blues_r')
    few = points.reshape(61, 61, 2)[::5, ::5].reshape(-1, 2)
    down = -differences(gradient(loss, logits(few)))
    size = down.norm(dim=1, keepdim=True)
    # A thousandth of the largest is as good as none.
    there = (size > 1e-3 * size.max()).squeeze(1)
    arrows = (down / size)[there]
    axes.quiver(*few[there].T, *arrows.T, color='0.35', scale=28, width=0.006)
    for start in range(path.shape[1]):
        axes.plot(*path[:, start].T, color='C1', lw=1)
        axes.plot(*path[-1, start], 'o', color='C3', ms=4)
    axes.plot(*TEACHER, '*', color='k', ms=9)
    axes.axhline(0, color='0.4', lw=0.7)
    axes.axvline(0, color='0.4', lw=0.7)
    axes.set_xlim(-REACH, REACH)
    axes.set_ylim(-REACH, REACH)
    axes.set_aspect('equal')
    axes.grid(False)
    axes.set_title(name, fontsize=9)


def analyse() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    add_out(parser)
    parser.add_argument('--steepness', nargs='+', type=float, default=[1, 10], help='k > 0')
    parser.add_argument('--steps', type=int, default=3000, help='of gradient descent')
    parser.add_argument('--rate', type=float, default=0.05, help='of gradient descent')
    args = parser.parse_args()
    if not all(0 < steepness < math.inf for steepness in args.steepness):
        raise ConfigError(f'--steepness takes numbers above 0, got {args.steepness}')
    if args.steps < 1 or not 0 < args.rate < math.inf:
        raise ConfigError(
            f'--steps must be 1 at least and --rate above 0, got {args.steps} and {args.rate}'
        )
    losses = all_losses(args.steepness)
    paths = {name: descend(loss, args.steps, args.rate) for name, loss in losses.items()}
    rows = [row for name, loss in losses.items() for row in rows_of(name, loss, paths[name])]
    save_table(rows, args.out / 'three_classes.csv')
    columns = 3
    lines = math.ceil(len(losses) / columns)
    with style():
        figure = Figure(figsize=(3 * columns, 3.2 * lines), layout='constrained', dpi=90)
        panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        for axes in panels.flat[len(losses) :]:
            axes.axis('off')
        for axes, (name, loss) in zip(panels.flat, losses.items(), strict=False):
            draw(axes, name, loss, paths[name])
        for axes in panels[-1]:
            axes.set_xlabel('s1 - s2')
        for axes in panels[:, 0]:
            axes.set_ylabel('s2 - s3')
        save(figure, args.out / 'three_classes.png')
    print(told())
    for name in losses:
        found = [row for row in rows if row['loss'] == name]
        right = sum(row['same_order'] for row in found)
        near = min(row['from_teacher'] for row in found)
        far = max(row['from_teacher'] for row in found)
        print(
            f'{name:<26} gradient at the teacher {found[0]["at_teacher"]:.2g}; '
            f'{right} of {len(found)} end in its order, {near:.2f} to {far:.2f} from it'
        )


def main() -> int:
    return run('three_classes.py', analyse)


if __name__ == '__main__':
    sys.exit(main())

"""The figures of the site and of the README, for a light and a dark page, and the numbers in them.

    make figures

Everything is computed here, by the losses themselves, on logits drawn from seed 0: nothing is
trained. Prints what docs/what_the_loss_is.md repeats; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from torch import Tensor
from torch.nn.functional import kl_div

from mmkendall import kendall_rank_loss, live_pair_share

FOLDER = Path(__file__).parent
# Of the text, of the lines in their order, and of what stands back.
COLORS = {
    'light': dict(
        text='#24292f', lines=('#57606a', '#0969da', '#bc4c00', '#1a7f37'), faint='#d0d7de'
    ),
    'dark': dict(
        text='#d5dae0', lines=('#9aa4af', '#58a6ff', '#f0883e', '#56d364'), faint='#3d444d'
    ),
}
IMAGES, CLASSES = 4096, 20
TEMPERATURES = (1, 4)
STEEPNESSES = (1, 10, 100)
# Logits of one image: the student has fox and lynx, and car and ship, the wrong way round.
NAMES = ('cat', 'lynx', 'fox', 'ship', 'car')
TEACHER = (5.0, 3.6, 2.6, 0.9, 0.0)
STUDENT = (4.4, 2.0, 3.0, 0.2, 1.2)


def drawn_logits() -> tuple[Tensor, Tensor]:
    """Logits of a student and of a teacher, N(0, 2.5), with a correlation of 0.6."""
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(IMAGES, CLASSES, generator=generator)
    own = torch.randn(IMAGES, CLASSES, generator=generator)
    return 2.5 * (0.6 * teacher + 0.8 * own), 2.5 * teacher


def kl_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Hinton's loss, averaged over the images."""
    log_student = (student / temperature).log_softmax(dim=1)
    target = (teacher / temperature).softmax(dim=1)
    return temperature**2 * kl_div(log_student, target, reduction='batchmean')


def gradient_shares(loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """(C,): share of the gradient, by absolute value, for each place in the teacher's order."""
    student, teacher = drawn_logits()
    student.requires_grad_()
    loss(student, teacher).backward()
    order = teacher.argsort(dim=1, descending=True)
    sizes = student.grad.abs().gather(1, order).sum(dim=0)
    return sizes / sizes.sum()


def all_shares() -> dict[str, Tensor]:
    """Shares of the gradient for each line of the figure, by its name."""
    shares = {
        f'KL, T = {temperature}': gradient_shares(lambda s, t, T=temperature: kl_loss(s, t, T))
        for temperature in TEMPERATURES
    }
    for steepness in STEEPNESSES:
        shares[f'ranking loss, k = {steepness}'] = gradient_shares(
            lambda s, t, k=steepness: kendall_rank_loss(s, t, k)
        )
    return shares


def draw_shares(axes: Axes, colors: dict, shares: dict[str, Tensor]) -> None:
    """Which classes a loss teaches."""
    shown = ('KL, T = 1', 'KL, T = 4', 'ranking loss, k = 1', 'ranking loss, k = 10')
    for index, (name, color) in enumerate(zip(shown, colors['lines'], strict=True)):
        style = '--' if index < 2 else '-'
        axes.plot(range(1, CLASSES + 1), 100 * shares[name], style, color=color, label=name, lw=2)
    axes.set_xticks([1, 5, 10, 15, 20])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("the teacher's place of a class, of 20")
    axes.set_ylabel('share of the gradient, %')
    axes.legend(frameon=False, labelcolor=colors['text'])


def draw_order(axes: Axes, colors: dict) -> None:
    """One image's classes in the teacher's and in the student's order."""
    wrong = {
        index
        for index in range(len(NAMES))
        for other in range(len(NAMES))
        if (TEACHER[index] - TEACHER[other]) * (STUDENT[index] - STUDENT[other]) < 0
    }
    for index, name in enumerate(NAMES):
        color = colors['lines'][2] if index in wrong else colors['lines'][1]
        axes.plot([0, 1], [TEACHER[index], STUDENT[index]], '-o', color=color, lw=2)
        axes.text(-0.07, TEACHER[index], name, ha='right', va='center', color=colors['text'])
        axes.text(1.07, STUDENT[index], name, ha='left', va='center', color=colors['text'])
    axes.set_xlim(-0.5, 1.5)
    axes.set_xticks([0, 1], ['teacher', 'student'])
    axes.set_ylabel('logit')
    axes.grid(False)


def draw_pair(value: Axes, slope: Axes, colors: dict) -> None:
    """What a pair of classes adds to the loss, and the gradient that it gets."""
    delta = torch.linspace(-3, 3, 1201)
    for steepness, color in zip(STEEPNESSES, colors['lines'][1:], strict=True):
        tanh = torch.tanh(steepness * delta)
        value.plot(delta, tanh, color=color, label=f'k = {steepness}', lw=2)
        slope.plot(delta, 1 - tanh**2, color=color, lw=2)
    value.set_ylabel(r'$\tanh(k\,\Delta)$')
    slope.set_ylabel(r'$1 - \tanh^2(k\,\Delta)$')
    slope.set_xlabel(r"difference $\Delta$ of the student's two logits")
    value.legend(frameon=False, labelcolor=colors['text'])


def style(colors: dict) -> dict:
    """matplotlib's settings: no background, so that the page shows through."""
    text = dict.fromkeys(
        ('text.color', 'axes.labelcolor', 'xtick.color', 'ytick.color', 'axes.titlecolor'),
        colors['text'],
    )
    return {
        **text,
        'axes.edgecolor': colors['faint'],
        'axes.grid': True,
        'grid.color': colors['faint'],
        'grid.alpha': 0.5,
        'axes.spines.top': False,
        'axes.spines.right': False,
        'font.size': 12,
        # The same file from the same numbers.
        'svg.hashsalt': 'mmkendall',
    }


def save(figure: plt.Figure, name: str, mode: str) -> None:
    path = FOLDER / f'{name}-{mode}.svg'
    figure.savefig(path, transparent=True, metadata={'Date': None})
    plt.close(figure)


def main() -> None:
    matplotlib.use('agg')
    shares = all_shares()
    for mode, colors in COLORS.items():
        with plt.rc_context(style(colors)):
            figure, (left, right) = plt.subplots(
                1, 2, figsize=(10, 4), layout='constrained', width_ratios=(2, 3)
            )
            draw_order(left, colors)
            left.set_title('The loss compares the order of every two classes', fontsize=12)
            draw_shares(right, colors, shares)
            right.set_title('Each class gets its share of the gradient', fontsize=12)
            save(figure, 'overview', mode)
            figure, axes = plt.subplots(figsize=(6.4, 4), layout='constrained')
            draw_shares(axes, colors, shares)
            save(figure, 'gradient_shares', mode)
            figure, axes = plt.subplots(figsize=(6.4, 3.6), layout='constrained')
            draw_order(axes, colors)
            save(figure, 'order', mode)
            figure, pair = plt.subplots(
                2, 1, figsize=(6.4, 5.2), sharex=True, layout='constrained'
            )
            draw_pair(*pair, colors)
            save(figure, 'pair', mode)
    print(report(shares))


def report(shares: dict[str, Tensor]) -> str:
    """The numbers, as lines."""
    lines = ['share of the gradient of the half of the classes that the teacher puts lowest']
    for name, share in shares.items():
        lines.append(f'  {name:<22}{100 * share[CLASSES // 2 :].sum():3.0f} %')
    lines.append('share of the pairs of classes that still get a gradient')
    student, _ = drawn_logits()
    for steepness in STEEPNESSES:
        live = live_pair_share(student, steepness).mean()
        lines.append(f'  {f"k = {steepness}":<22}{100 * live:3.0f} %')
    return '\n'.join(lines)


if __name__ == '__main__':
    main()

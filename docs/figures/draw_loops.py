"""The figures of docs/how_the_loops_work.md, for a light and a dark page.

    make figures

Everything is computed here, from 40 classes whose logits are drawn from seed 0.
"""

from __future__ import annotations

import matplotlib
import numpy as np
from draw import COLORS, save, style
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from mmkendall.functional.backends.numba_loops.taps import PIECES, STEP, TAPS

CLASSES = 40
WINDOW_STEEPNESS, GRID_STEEPNESS = 6.0, 0.5
# k times a difference beyond which the loops take tanh for +-1.
NEAR = 8.0


def drawn_logits() -> tuple[np.ndarray, np.ndarray]:
    """Of a student and of a teacher, N(0, 2.5)."""
    teacher, own = np.random.default_rng(0).normal(size=(2, CLASSES))
    return 2.5 * (0.6 * teacher + 0.8 * own), 2.5 * teacher


def draw_window(axes: Axes, colors: dict) -> None:
    """tanh of every pair once the classes are in order, and the pairs that need it."""
    student = np.sort(drawn_logits()[0])
    differences = WINDOW_STEEPNESS * (student[:, None] - student)
    shades = LinearSegmentedColormap.from_list(
        'order', [colors['lines'][2], colors['faint'], colors['lines'][1]]
    )
    image = axes.imshow(np.tanh(differences), cmap=shades, vmin=-1, vmax=1)
    rows, columns = np.nonzero(np.abs(differences) < NEAR)
    axes.plot(columns, rows, '.', color=colors['text'], ms=3)
    axes.set_xlabel('class j, in order')
    axes.set_ylabel('class i, in order')
    axes.grid(False)
    axes.figure.colorbar(image, ax=axes, label=r'$\tanh(k\,(s_i - s_j))$', ticks=(-1, 0, 1))


def draw_grid(axes: Axes, colors: dict) -> None:
    """The classes, and their weights at the nodes of the grid."""
    places = [
        GRID_STEEPNESS * (logits - logits.min()) / STEP + TAPS // 2 - 1
        for logits in drawn_logits()
    ]
    sizes = [int(place.max()) + TAPS // 2 + 2 for place in places]
    nodes = np.zeros(sizes)
    for place_S, place_T in zip(*places, strict=True):
        weights = [
            np.polynomial.polynomial.polyval(place % 1, PIECES) for place in (place_S, place_T)
        ]
        first_S, first_T = (int(place) - TAPS // 2 + 1 for place in (place_S, place_T))
        nodes[first_S : first_S + TAPS, first_T : first_T + TAPS] += np.outer(*weights)
    shades = LinearSegmentedColormap.from_list('weight', [colors['faint'], colors['lines'][1]])
    shown = np.ma.masked_less(nodes, 1e-3)
    axes.imshow(shown, cmap=shades, origin='lower', aspect='auto')
    axes.plot(places[1], places[0], 'o', color=colors['lines'][2], ms=4)
    axes.set_xlabel("nodes along the teacher's logits")
    axes.set_ylabel("nodes along the student's logits")
    axes.grid(False)


def main() -> None:
    matplotlib.use('agg')
    for mode, colors in COLORS.items():
        with plt.rc_context(style(colors)):
            for name, draw in (('window', draw_window), ('grid', draw_grid)):
                figure, axes = plt.subplots(figsize=(6.4, 4.6), layout='constrained')
                draw(axes, colors)
                save(figure, name, mode)


if __name__ == '__main__':
    main()

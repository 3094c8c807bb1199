"""Which property of a teacher goes with what one arm of a study gains over another.

    python tools/analysis_tools/which_teacher.py docs/results/letters_scores \\
        --arm 'CE + ranking' --rival KD

Reads the tables that ``tools/benchmark.py`` writes, of one study or of several, trains nothing,
and writes ``which_teacher.csv`` and a figure. A row is a property of the teacher's scores on the
validation set, with Spearman's rank correlation, over the cases, between it and the difference of
the arms' top-1 on the test set. The p-value is that of a permutation test, exact where there are
few cases, times the number of properties (Bonferroni). Cases of one study share their teacher's
network and their images, so a correlation says how these cases lie, not how all teachers do.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

from mmkendall import compat

compat.apply()

import numpy as np  # noqa: E402
from analysis import add_out, run, save, save_table, style  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from scipy.stats import permutation_test, spearmanr  # noqa: E402

from mmkendall.engine.distill_config import ConfigError  # noqa: E402
from mmkendall.studies.properties import PROPERTIES  # noqa: E402

# Fewer cases have no correlation that could be certain.
LEAST_CASES = 4
PERMUTATIONS = 20_000


def table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV."""
    try:
        with open(path, newline='') as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise ConfigError(
            f'{path} cannot be read ({error.strerror}): give folders that tools/benchmark.py wrote'
        ) from error


def cases(folders: list[Path], arm: str, rival: str) -> list[dict[str, Any]]:
    """Each case of the studies: its name, the teacher's properties, and the difference."""
    found, arms = [], set()
    for folder in folders:
        teachers = {row['case']: row for row in table(folder / 'teachers.csv')}
        for row in table(folder / 'differences.csv'):
            arms.add((row['arm'], row['rival']))
            # A case has a row for each kind of interval around the same difference.
            key = row['arm'], row['rival'], row['measure'], row['over']
            if key != (arm, rival, 'top1', 'seeds') or row['case'] not in teachers:
                continue
            values = {name: float(teachers[row['case']][name]) for name in PROPERTIES}
            found.append({'case': row['case'], 'difference': float(row['mean']), **values})
    if len(found) < LEAST_CASES:
        known = '; '.join(f'{one} and {other}' for one, other in sorted(arms))
        raise ConfigError(
            f'--arm {arm!r} --rival {rival!r} are compared in {len(found)} cases with a teacher, '
            f'{LEAST_CASES} are needed; the studies compare {known}'
        )
    return found


def correlations(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row a property, the closest first."""
    difference = np.array([case['difference'] for case in found])
    varying = [name for name in PROPERTIES if len({case[name] for case in found}) > 1]
    rows = []
    for name in varying:
        values = np.array([case[name] for case in found])

        def rho(shuffled: np.ndarray) -> float:
            return spearmanr(shuffled, difference).statistic

        tested = permutation_test(
            (values,), rho, permutation_type='pairings', n_resamples=PERMUTATIONS,
            random_state=np.random.default_rng(0),
        )  # fmt: skip
        rows.append(
            {
                'property': name,
                'meaning': PROPERTIES[name],
                'spearman': float(tested.statistic),
                'p_value': min(1.0, float(tested.pvalue) * len(varying)),
                'cases': len(found),
            }
        )
    return sorted(rows, key=lambda row: -abs(row['spearman']))


def draw(found: list[dict[str, Any]], rows: list[dict[str, Any]], arm: str, rival: str) -> Figure:
    """The three properties that go with the difference most, case by case."""
    shown = rows[:3]
    figure = Figure(figsize=(3.4 * len(shown), 3.6), layout='constrained')
    axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for place, row in zip(axes, shown, strict=True):
        for number, case in enumerate(found, 1):
            place.plot(case[row['property']], case['difference'], 'o', color='C0')
            place.annotate(
                str(number), (case[row['property']], case['difference']),
                textcoords='offset points', xytext=(4, 3), fontsize=7,
            )  # fmt: skip
        place.axhline(0, color='0.5', linewidth=0.8)
        place.margins(0.12)
        place.set_xlabel(f'{row["property"]}\n(Spearman {row["spearman"]:+.2f})')
    axes[0].set_ylabel(f'{arm}\nless {rival}, points of top-1')
    figure.suptitle(
        ',  '.join(f'{number} {case["case"]}' for number, case in enumerate(found, 1)),
        fontsize=7, wrap=True,
    )  # fmt: skip
    return figure


def analyse() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        'study', nargs='+', type=Path, help='a folder that tools/benchmark.py wrote'
    )
    parser.add_argument('--arm', required=True, help='as the study calls it')
    parser.add_argument('--rival', required=True, help='likewise')
    add_out(parser)
    args = parser.parse_args()
    found = cases(args.study, args.arm, args.rival)
    rows = correlations(found)
    save_table(rows, args.out / 'which_teacher.csv')
    with style():
        save(draw(found, rows, args.arm, args.rival), args.out / 'which_teacher.svg')
    for row in rows:
        print(f'{row["property"]:>14}: {row["spearman"]:+.2f}, p = {row["p_value"]:.3f}')


def main() -> int:
    return run('which_teacher.py', analyse)


if __name__ == '__main__':
    sys.exit(main())

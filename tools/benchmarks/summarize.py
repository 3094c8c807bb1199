"""docs/benchmarks.md from the CSVs: each figure beside its bar, then the tables."""

from __future__ import annotations

import argparse
import csv
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common import COLUMNS, console, growth_exponent, heading, readable, share, three_digits
from rich import box
from rich.table import Table

from mmkendall.functional.backends import PREFERENCE

HEADER = """# Benchmarks

Written by `python tools/benchmarks/summarize.py` from the CSVs in `docs/benchmarks/`; not to be
edited by hand. Figures for the loss are forward and backward through `kendall_rank_loss`. All
subjects of a case ran in turns in one process, each right after an untimed call of its own (not
so for the share of a training step). Times are medians; the spread is how far the 20th and the
80th percentile lie from them, in percent. Ratios compare medians of the same run. Memory is the
most that was in use during a call beyond what was before it. Tables at the end, whose names begin
with a folder, are of another machine and decide no bar.
"""
CSVS = '*_*_*t.csv'
# What the tables of a benchmark need beside the header.
ABOUT = {
    'loss_costs': "Every loss with its default settings, forward and backward, the teacher's side "
    'included, beside a plain KL divergence of the same logits: "times KL" is the time over that '
    "of the divergence. For stored top-k scores the case names the student's classes and how many "
    'of them are stored.',
    'linear_head': 'Forward and backward from the hidden states of a linear head on, the '
    "teacher's head and the gradient of the weight included: with all logits in memory, and a few "
    'rows at a time. A case is (rows, width) times classes, a ratio that of the ranking loss with '
    'all logits.',
}


class Results:
    """The rows of one kind of device at one number of threads."""

    def __init__(self, rows: list[dict[str, str]]) -> None:
        self.rows = rows
        subjects = {row['subject'] for row in rows}
        self.fastest = next((name for name in PREFERENCE if name in subjects), '')

    def select(self, benchmark: str, **columns: object) -> list[dict[str, str]]:
        """Float32 rows, or those of a benchmark without dtype, that have these values."""
        return [
            row
            for row in self.rows
            if row['benchmark'] == benchmark
            and row['dtype'] in ('float32', '')
            and row['surrogate'] in ('product', '')
            and all(same(row[name], value) for name, value in columns.items())
        ]

    def value(self, column: str, benchmark: str, **columns: object) -> float | None:
        found = [row[column] for row in self.select(benchmark, **columns) if row[column] != '']
        return float(found[0]) if found else None

    def quotient(
        self, column: str, upper: str, lower: str, benchmark: str, **columns: object
    ) -> float | None:
        """A column of one subject over that of another in the same case."""
        above, below = (
            self.value(column, benchmark, subject=subject, **columns) for subject in (upper, lower)
        )
        if above is None or below is None:
            return None
        return above / max(below, 1e-9)

    def speedup(self, subject: str, **columns: object) -> float | None:
        """Over the reference, the least of the steepnesses that were measured."""
        cases = {row['steepness'] for row in self.select('rank_loss_speed', **columns)}
        columns.pop('steepness', None)
        found = [
            self.quotient(
                'median_s', 'reference', subject, 'rank_loss_speed', steepness=case, **columns
            )
            for case in cases
        ]
        return min((ratio for ratio in found if ratio is not None), default=None)

    def share(self, case: str, classes: int) -> float | None:
        """Of a training step, in percent, the most of the steepnesses."""
        found = self.select(
            'training_step_share', case=case, classes=classes, subject=self.fastest
        )
        return max((share(row) for row in found), default=None)

    def one_row(self, steepness: float) -> float | None:
        """Milliseconds for a row of 128,256 classes."""
        seconds = self.value(
            *('median_s', 'class_scaling'),
            subject=self.fastest,
            classes=128_256,
            steepness=steepness,
        )
        return None if seconds is None else seconds * 1e3

    def over_best(self) -> float | None:
        """How much longer a row takes than by the best algorithm, where the choice is worst."""
        times = {}
        for row in self.select('class_scaling'):
            backend, _, algorithm = row['subject'].partition(', ')
            if backend == self.fastest and algorithm:
                case = times.setdefault((row['classes'], row['steepness']), {})
                case[algorithm] = float(row['median_s'])
        found = [
            case.pop('auto') / min(case.values())
            for case in times.values()
            if 'auto' in case and len(case) > 1
        ]
        return max(found, default=None)

    def exponent(self, steepness: float) -> float | None:
        found = [
            (int(row['classes']), float(row['median_s']))
            for row in self.select('class_scaling', steepness=steepness, subject=self.fastest)
            if int(row['classes']) >= 4096
        ]
        if not found or max(found)[0] < 128_256:
            return None
        return growth_exponent(*zip(*found, strict=True))

    def over_divergence(self) -> float | None:
        cases = {
            row['steepness']
            for row in self.select('rank_loss_speed', rows=256, classes=1000, subject='KL')
        }
        found = [
            self.quotient(
                'median_s',
                self.fastest,
                'KL',
                'rank_loss_speed',
                rows=256,
                classes=1000,
                steepness=case,
            )
            for case in cases
        ]
        return max((ratio for ratio in found if ratio is not None), default=None)

    def worst(self, column: str) -> float | None:
        found = self.select('rank_loss_speed', subject=self.fastest)
        return max((float(row[column]) for row in found if row[column] != ''), default=None)

    def most_memory(self) -> float | None:
        found = self.select('class_scaling', classes=128_256, subject=self.fastest)
        sizes = [float(row['extra_bytes']) / 1e6 for row in found if row['extra_bytes'] != '']
        return max(sizes, default=None)

    def slowest(self, scale: float, **columns: object) -> float | None:
        found = self.select('rank_loss_speed', subject=self.fastest, **columns)
        return max((float(row['median_s']) * scale for row in found), default=None)


def same(cell: str, value: object) -> bool:
    return float(cell or 'nan') == value if isinstance(value, (int, float)) else cell == value


@dataclass(frozen=True)
class Bar:
    """A figure and what it has to reach."""

    what: str
    limit: float
    unit: str
    at_least: bool
    figure: Callable[[Results], float | None]
    kind: str = 'cpu'

    def verdict(self, results: Results | None) -> tuple[str, str]:
        figure = None if results is None else self.figure(results)
        if figure is None:
            # A GPU is measured by a command of its own.
            return '', 'not here: [GPU](gpu.md)' if self.kind == 'cuda' else 'not measured'
        met = figure >= self.limit if self.at_least else figure < self.limit
        return f'{three_digits(figure)}{self.unit}', 'met' if met else '**not met**'

    @property
    def bar(self) -> str:
        return f'{"at least" if self.at_least else "under"} {self.limit:g}{self.unit}'


def at_large(subject: str, steepness: float, rows: int = 256) -> Callable[[Results], float | None]:
    return lambda results: results.speedup(
        subject or results.fastest, rows=rows, classes=1000, steepness=steepness
    )


def less_memory(results: Results) -> float | None:
    return results.quotient(
        'extra_bytes', 'reference', results.fastest, 'rank_loss_speed', rows=256, classes=1000
    )


def over_tau(subject: str) -> Callable[[Results], float | None]:
    return lambda results: results.quotient(
        'median_s', subject, 'kendall_tau', 'tau_speed', rows=1000, classes=1000
    )


def worst(column: str) -> Callable[[Results], float | None]:
    return lambda results: results.worst(column)


BARS = (
    # What a user can feel comes first: the share of a training step. The time over the reference
    # leaves room for loops that a person can read.
    *(
        Bar(
            *(f'share of a ResNet-20 step, batch 64, C={classes}', limit, ' %', False),
            lambda results, classes=classes: results.share('ResNet-20 32x32', classes),
        )
        for classes, limit in ((1000, 2), (100, 0.3))
    ),
    Bar('(256,1000), k=1, over the reference', 200, 'x', True, at_large('', 1.0)),
    Bar('(256,1000), k=100, over the reference', 200, 'x', True, at_large('', 100.0)),
    Bar('(256,1000), less extra memory', 500, 'x', True, less_memory),
    *(
        Bar(
            *(f'(1,128256), k={steepness:g}', 60, ' ms', False),
            lambda results, steepness=steepness: results.one_row(steepness),
        )
        for steepness in (1.0, 10.0, 100.0)
    ),
    Bar('(1,128256), extra memory', 16, ' MB', False, Results.most_memory),
    Bar('one row, over the best algorithm', 1.5, 'x', False, Results.over_best),
    Bar('torch alone, (64,1000), k=1', 12, 'x', True, at_large('eager', 1.0, 64)),
    Bar('torch alone, (64,1000), k=100', 30, 'x', True, at_large('eager', 100.0, 64)),
    Bar('tau-b, 1000 rows of 1000, over torchmetrics', 50, 'x', True, over_tau('torchmetrics')),
    Bar('tau-b, 1000 rows of 1000, over scipy', 5, 'x', True, over_tau('scipy')),
    *(
        Bar(
            *(f'growth with C from 4096 to 128256, k={steepness:g}', 1.3, '', False),
            lambda results, steepness=steepness: results.exponent(steepness),
        )
        for steepness in (1.0, 100.0)
    ),
    Bar(
        *('(256,1000), any k, over the reference', 40, 'x', True),
        lambda results: results.speedup(results.fastest, rows=256, classes=1000),
        'cuda',
    ),
    Bar(
        *('(256,1000), any k', 250, ' µs', False),
        lambda results: results.slowest(1e6, rows=256, classes=1000),
        'cuda',
    ),
    Bar(
        *('share of a ResNet-18 step, batch 256, C=1000', 1, ' %', False),
        lambda results: results.share('ResNet-18 224x224', 1000),
        'cuda',
    ),
    *(
        bar
        for kind in ('cpu', 'cuda')
        for bar in (
            Bar('error of the value', 1e-6, '', False, worst('value_error'), kind),
            Bar('error of the gradient', 1e-5, '', False, worst('grad_error'), kind),
        )
    ),
    Bar('goal: (256,1000), times KL', 3, 'x', False, Results.over_divergence, 'cuda'),
)


def read(folder: Path, pattern: str) -> dict[str, list[dict[str, str]]]:
    """The rows of each CSV, by its path without suffix: benchmark, kind of device and threads."""
    found = {}
    for path in sorted(folder.glob(pattern)):
        with path.open(newline='') as file:
            found[path.relative_to(folder).with_suffix('').as_posix()] = list(csv.DictReader(file))
    return found


def bar_table(files: dict[str, list[dict[str, str]]]) -> list[tuple[str, ...]]:
    results = {}
    for kind in ('cpu', 'cuda'):
        rows = [row for stem, own in files.items() if stem.endswith(f'_{kind}_1t') for row in own]
        results[kind] = Results(rows) if rows else None
    return [(bar.kind.upper(), bar.what, bar.bar, *bar.verdict(results[bar.kind])) for bar in BARS]


def markdown_table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ('---',) * len(head), *rows]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def section(stem: str, rows: list[dict[str, str]], folder: Path) -> str:
    columns = COLUMNS[rows[0]['benchmark']]
    where = rows[0]
    lines = [
        f'## {stem}',
        f'{where["device"]}, threads: {where["threads"]}, Python {where["python"]}, commit '
        f'{where["commit"]}. {where["versions"]}.',
        markdown_table(
            tuple(heading(name).replace('\n', ' ') for name in columns),
            [tuple(readable(name, row) for name in columns) for row in rows],
        ),
    ]
    about = ABOUT.get(where['benchmark'])
    if about:
        lines.insert(2, textwrap.fill(about, 99))
    if (folder / f'{stem}.png').exists():
        lines.insert(2, f'![{stem}](benchmarks/{stem}.png)')
    return '\n\n'.join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--folder', type=Path, default=Path('docs/benchmarks'), help='of the CSVs')
    parser.add_argument('--output', type=Path, help='the page to write; none without it')
    options = parser.parse_args()
    files = read(options.folder, CSVS)
    head = ('device', 'what', 'bar', 'measured', 'verdict')
    bars = bar_table(files)
    title = 'Each figure beside its bar, one thread'
    table = Table(*head, title=title, box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    for row in bars:
        table.add_row(*(cell.replace('**', '') for cell in row))
    console.print(table)
    if options.output:
        files.update(read(options.folder, f'*/{CSVS}'))
        sections = [section(stem, rows, options.folder) for stem, rows in files.items()]
        bars_section = '## The bars, one thread\n\n' + markdown_table(head, bars)
        options.output.write_text('\n\n'.join([HEADER.rstrip(), bars_section, *sections]) + '\n')


if __name__ == '__main__':
    main()

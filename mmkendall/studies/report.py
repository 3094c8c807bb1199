"""The page that says what came out of a study, in Markdown and as one HTML file."""

from __future__ import annotations

import base64
import html
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmkendall.studies.plan import LESS_IS_BETTER
from mmkendall.studies.results import MEASURES, Compared, Results
from mmkendall.whole_files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEADINGS = {
    'top1': 'top-1 %', 'top5': 'top-5 %', 'nll': 'NLL', 'ece': 'ECE %',
    'nll_scaled': 'NLL, scaled', 'ece_scaled': 'ECE %, scaled', 'agreement': 'agreement %',
    'top5_overlap': 'top-5 overlap %', 'tau': 'tau', 'tau_low': 'tau low',
    'same_superclass': 'mistakes within superclass %', 'top1_left_out': 'top-1 %, left out',
    'top1_shown': 'top-1 %, shown', 'probe': 'probe %',
}  # fmt: skip
DIGITS = {'nll': 3, 'nll_scaled': 3, 'tau': 3, 'tau_low': 3}
GLOSSARY = """\
NLL is the negative log-likelihood of the labels in nats, ECE the expected calibration error of the
highest probability in 15 bins; "scaled" is after a temperature that is fitted on the validation
set. Agreement, top-5 overlap, tau and tau low compare with the teacher on the test set: the same
first class, shared first five, Kendall's tau-b over all classes and over the half that the teacher
puts lowest. A step's cost is the median time of an iteration, data and logging included."""
INTERVALS = """\
Differences are of top-1 in points, arm minus rival, paired by seed; the interval "over seeds" is
Student's t, "over seeds and groups" also covers other groups of test samples than these, "over
cases" takes each case of a pool as one value. All intervals of one case hold together with 95 %
(Bonferroni over its comparisons)."""
STYLE = """\
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem;
  color: #1a1a1a; background: #fff; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; display: block; overflow-x: auto; font-size: 14px; }
th, td { padding: .3rem .7rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid #e3e3e3; }
th:first-child, td:first-child { text-align: left; }
th { background: #f5f5f5; } img { max-width: 100%; height: auto; }
code, pre { background: #f5f5f5; padding: .1rem .3rem; } pre { overflow-x: auto; padding: .6rem; }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #15171a; }
  th, code, pre { background: #23262b; } th, td, h2 { border-color: #3a3e45; }
  img { background: #fff; } }"""


def write_report(results: Results, folder: Path, command: str) -> None:
    """Writes ``report.md``, its figures and ``report.html``.

    Args:
        results: of the study.
        folder: where they go.
        command: that carries out the study.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f'# {results.study.name}', '', results.study.about.strip(), '']
    lines += ['```bash', command, '```', '', *_conditions(results), '']
    differences = results.differences()
    figures: dict[str, bytes] = {}
    if differences:
        figures['differences'] = _svg(forest_plot(differences))
        lines += ['## Differences', '', INTERVALS, '', '![differences](differences.svg)', '']
        lines += [*difference_table(differences), '']
    for number, case in enumerate(results.study.cases):
        if not results.arms(case):
            continue
        lines += [f'## Case: {case}', '', *arm_table(results, case), '']
        curves = learning_curves(results, case)
        if curves is not None:
            name = f'curves_{number}'
            figures[name] = _svg(curves)
            lines += [f'![learning curves of {case}]({name}.svg)', '']
    lines += ['## What the columns are', '', GLOSSARY, '', *_settings(results)]
    for name, image in figures.items():
        write_atomically(str(folder / f'{name}.svg'), image)
    text = '\n'.join(lines).rstrip() + '\n'
    write_atomically(str(folder / 'report.md'), text.encode())
    page = _page(results.study.name, text, figures)
    write_atomically(str(folder / 'report.html'), page.encode())


def _conditions(results: Results) -> list[str]:
    """Who, how many, where and with what."""
    if not results.trainings:
        return ['Nothing is done yet.']
    found = [each.task.result() for each in results.trainings]

    def all_of(*names: str) -> str:
        kinds = Counter(', '.join(str(each.get(name)) for name in names) for each in found)
        return '; '.join(f'{kind} ({count})' if len(kinds) > 1 else kind
                         for kind, count in kinds.most_common())  # fmt: skip

    tuned = sum(each.phase == 'tune' for each in results.trainings)
    diverged = sum('diverged' in each for each in found)
    seconds = sum(each['seconds'] for each in found)
    return [
        f'{len(found)} trainings, {tuned} of them to choose settings on the validation set (seeds '
        f'{_list(results.study.tune_seeds)}), the others compared on the test set (seeds '
        f'{_list(results.study.seeds)}) after their last epoch; {diverged} diverged. Together '
        f'{seconds / 60:.0f} minutes of processes.',
        '',
        f'mmkendall {all_of("mmkendall")}, torch {all_of("torch")}, Python {all_of("python")}; '
        f'{all_of("device", "processor")}; commit {all_of("commit")}.',
    ]


def _list(values: Sequence[Any]) -> str:
    return ', '.join(map(str, values))


def arm_table(results: Results, case: str) -> list[str]:
    """Means and standard deviations of a case."""
    arms = results.arms(case)
    shown = [
        name
        for name in MEASURES
        if not all(math.isnan(value) for arm in arms for value in results.values(arm, case, name))
    ]
    rows = []
    teacher = results.teacher(case)
    if teacher is not None:
        cells = [f'{teacher[1]:.2f}' if name == 'top1' else '' for name in shown]
        rows.append([f'teacher: {teacher[0]}', '', *cells, '', ''])
    costs = {arm: results.seconds_per_step(arm, case) for arm in arms}
    reference = costs.get(results.study.baseline or arms[0], math.nan)
    for arm in arms:
        cells = [arm, str(len(results.of(arm, case)))]
        for name in shown:
            values = results.values(arm, case, name)
            cells.append(_mean(values, DIGITS.get(name, 2)))
        relative = costs[arm] / reference
        cells += [f'{1000 * costs[arm]:.1f}', '' if math.isnan(relative) else f'{relative:.2f}']
        rows.append(cells)
    baseline = results.study.baseline or arms[0]
    heads = [HEADINGS[name] for name in shown]
    return _table(['arm', 'seeds', *heads, 'ms a step', f'/ {baseline}'], rows)


def _mean(values: Sequence[float], digits: int) -> str:
    finite = [value for value in values if not math.isnan(value)]
    if not finite:
        return ''
    text = f'{np.mean(finite):.{digits}f}'
    if len(finite) > 1:
        text += f' ± {np.std(finite, ddof=1):.{digits}f}'
    return text if len(finite) == len(values) else f'{text} ({len(finite)} of {len(values)})'


def difference_table(differences: Sequence[Compared]) -> list[str]:
    """Every difference with its interval, nulls included."""
    rows = []
    for each in differences:
        found = each.difference
        interval = '' if math.isnan(found.low) else f'{found.low:+.2f} to {found.high:+.2f}'
        p_value = '' if math.isnan(found.p_value) else f'{found.p_value:.2g}'
        rows.append(
            [
                f'{each.arm} − {each.rival}', each.case, each.over, f'{found.mean:+.2f}', interval,
                p_value, str(found.count), found.verdict,
            ]
        )  # fmt: skip
    heads = ['arm − rival', 'case', 'over', 'points', 'interval', 'p', 'values', 'verdict']
    return _table(heads, rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return f'| {" | ".join(cell.replace("|", "/") for cell in cells)} |'

    return [line(heads), line(['---'] + ['---:'] * (len(heads) - 1)), *map(line, rows)]


def _settings(results: Results) -> list[str]:
    """What was chosen from each grid, and whether it lies at its end."""
    rows = []
    for case in results.study.cases:
        for arm in results.study.arms.values():
            found = results.of(arm.name, case)
            if not found or not found[0].point:
                continue
            point = found[0].point
            ends = [
                name
                for name, value in point.items()
                if len(arm.grid[name]) > 2 and value in (arm.grid[name][0], arm.grid[name][-1])
            ]
            chosen = ', '.join(f'{name} {value}' for name, value in point.items())
            rows.append([arm.name, case, chosen, ', '.join(ends)])
    if not rows:
        return []
    which = 'lowest' if results.study.select in LESS_IS_BETTER else 'highest'
    return [
        '## What was chosen',
        '',
        f'By the {which} {results.study.select} of the validation set. A value at the end of its '
        'grid may be better still beyond it.',
        '',
        *_table(['arm', 'case', 'chosen', 'at the end of its grid'], rows),
    ]


def _new_figure(width: float, height: float) -> Figure:
    # Without pyplot, so that nothing global is set.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout='constrained')


def forest_plot(differences: Sequence[Compared]) -> Figure:
    """A line a difference: its mean and its interval, the widest that there is."""
    widest: dict[tuple[str, str, str], Compared] = {}
    for each in differences:
        widest[each.case, each.arm, each.rival] = each
    shown = list(widest.values())
    figure = _new_figure(9, 1.2 + 0.3 * len(shown))
    axes = figure.subplots()
    colors = {'higher': '#1b7f4d', 'lower': '#b3322c'}
    for place, each in enumerate(shown):
        found, color = each.difference, colors.get(each.difference.verdict, '#555555')
        if not math.isnan(found.low):
            axes.plot([found.low, found.high], [place, place], color=color, linewidth=2)
        axes.plot([found.mean], [place], 'o', color=color)
    axes.axvline(0, color='#999999', linewidth=1)
    cases = len({each.case for each in shown}) > 1
    axes.set_yticks(
        range(len(shown)),
        [f'{each.arm} − {each.rival}' + (f'   [{each.case}]' if cases else '') for each in shown],
        fontsize=8,
    )
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlabel('difference of top-1, points (interval: 95 % of a case together)')
    return figure


def learning_curves(results: Results, case: str) -> Figure | None:
    """Top-1 and tau to the teacher on the validation set over the epochs, means over the seeds."""
    curves = {
        arm: [each.task.result()['curve'] for each in results.of(arm, case)
              if each.task.result().get('curve')]
        for arm in results.arms(case)
    }  # fmt: skip
    curves = {arm: records for arm, records in curves.items() if records}
    points = [records[0][0] for records in curves.values()]
    top1 = next((name for point in points for name in point if name.endswith('top1')), None)
    if top1 is None:
        return None
    shown = {top1: 'top-1 of the validation set, %'}
    if any('teacher/tau' in point for point in points):
        shown['teacher/tau'] = "tau to the teacher's order, validation set"
    figure = _new_figure(9, 4.5 * len(shown))
    panels = figure.subplots(len(shown), squeeze=False)[:, 0]
    for axes, (name, label) in zip(panels, shown.items(), strict=True):
        for number, (arm, records) in enumerate(curves.items()):
            if name not in records[0][0]:
                continue
            length = min(map(len, records))
            values = [[record[name] for record in one[:length]] for one in records]
            epochs = [record['epoch'] for record in records[0][:length]]
            axes.plot(epochs, np.mean(values, axis=0), label=arm, color=f'C{number % 10}',
                      linestyle=('-', '--', ':')[number // 10 % 3])  # fmt: skip
        axes.set_xlabel('epoch')
        axes.set_ylabel(label)
    panels[0].legend(fontsize=8, loc='center left', bbox_to_anchor=(1, 0.5))
    return figure


def _svg(figure: Figure) -> bytes:
    import io

    from matplotlib import rc_context

    file = io.BytesIO()
    # The same file from the same numbers.
    with rc_context({'svg.hashsalt': 'mmkendall'}):
        figure.savefig(file, format='svg', metadata={'Date': None})
    return file.getvalue()


def _page(title: str, text: str, figures: dict[str, bytes]) -> str:
    """The Markdown as one HTML file that needs no other."""
    from markdown_it import MarkdownIt

    body = MarkdownIt('commonmark').enable('table').render(text)
    for name, image in figures.items():
        data = base64.b64encode(image).decode()
        body = body.replace(f'src="{name}.svg"', f'src="data:image/svg+xml;base64,{data}"')
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n'
        f'<body>{body}</body></html>\n'
    )

"""Compare ways to train a student under the same conditions, and say what came out.

    python tools/benchmark.py configs/studies/quick.py
    python tools/benchmark.py configs/studies/quick.py --plan
    python tools/benchmark.py --against mmrazor

A study is a Python config: teachers, cases, arms, seeds (docs/studies.md). What is finished is
kept, so the same command goes on after a stop and does nothing once all is done. Writes
``runs.csv``, ``arms.csv``, ``differences.csv``, ``report.md`` and ``report.html``.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from mmkendall import compat

compat.apply()

from mmengine.config import DictAction  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import (  # noqa: E402
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as Bar  # noqa: E402
from rich.table import Table  # noqa: E402

from mmkendall.engine.distill_config import ConfigError  # noqa: E402
from mmkendall.studies.execute import (  # noqa: E402
    ClusterJobs,
    LocalJobs,
    Progress,
    carry_out_all,
    each_once,
    seconds_left,
    unfinished,
)
from mmkendall.studies.plan import Plan, Task, Training  # noqa: E402
from mmkendall.studies.report import write_report  # noqa: E402
from mmkendall.studies.results import Results  # noqa: E402
from mmkendall.studies.study import Study, read_study  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent


class FailedTasksError(RuntimeError):
    """Trainings that could not be carried out, so that there is nothing to compare."""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('study', nargs='?', help='a file, or package::path')
    parser.add_argument(
        '--against',
        nargs=argparse.REMAINDER,
        help="'mmrazor' prints what it reports beside what was measured here, with the arguments "
        'of tools/analysis_tools/against_mmrazor.py behind it',
    )
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=Path('work_dirs/studies'),
        help='for the trainings of all studies; the report goes to a folder in it',
    )
    parser.add_argument('--out', type=Path, help='folder of the tables and the report')
    parser.add_argument(
        '--jobs', type=int, default=os.cpu_count() or 1, help='trainings at a time'
    )
    parser.add_argument('--devices', nargs='+', default=[], help='GPUs to deal out, such as 0 1')
    parser.add_argument('--plan', action='store_true', help='say what there is to do, and stop')
    parser.add_argument(
        '--cluster',
        help="run the trainings by submitit: 'slurm', or 'local' to try it; "
        'pip install ".[study,cluster]" in a checkout',
    )
    parser.add_argument(
        '--cluster-options',
        nargs='+',
        action=DictAction,
        default={},
        help='of submitit: timeout_min=60 slurm_partition=gpu gpus_per_node=1',
    )
    args = parser.parse_args()
    if args.jobs < 1:
        parser.error(f'--jobs must be 1 at least, got {args.jobs}')
    if args.against is not None and args.against[:1] != ['mmrazor']:
        parser.error(f'--against knows mmrazor alone, got {" ".join(args.against)!r}')
    if (args.study is None) == (args.against is None):
        parser.error('give either a study or --against mmrazor')
    return args


def commit() -> str:
    """That of the checkout, and whether it was changed; empty outside of one."""
    for command in (['rev-parse', '--short=10', 'HEAD'], ['status', '--porcelain', '-uno']):
        done = subprocess.run(
            ['git', '-C', str(ROOT), *command], capture_output=True, text=True, check=False
        )
        if done.returncode:
            return ''
        if command[0] == 'rev-parse':
            name = done.stdout.strip()
        elif done.stdout.strip():
            name += '+changes'
    return name


class Bench:
    """Carries out a plan phase by phase, and shows how far it is."""

    def __init__(self, plan: Plan, runner: Any, jobs: int, console: Console) -> None:
        self.plan, self.runner, self.jobs, self.console = plan, runner, jobs, console
        self.failed: list[tuple[Task, str]] = []

    def carry_out(self, title: str, trainings: list[Training]) -> None:
        tasks = [each.task for each in trainings]
        if not unfinished(tasks):
            return
        columns = (
            TextColumn('{task.fields[title]}'), BarColumn(), MofNCompleteColumn(),
            TimeElapsedColumn(), TextColumn('{task.fields[left]}'),
            TextColumn('{task.description}'),
        )  # fmt: skip
        with Bar(*columns, console=self.console) as bar:
            line = bar.add_task('', total=None, title=title, left='')

            def tell(progress: Progress) -> None:
                bar.update(
                    line,
                    completed=progress.done,
                    total=progress.total,
                    left=remaining(progress.seconds_left),
                    description=' · '.join(progress.running)[:60],
                )

            self.failed += carry_out_all(tasks, self.runner, self.jobs, tell)
        if self.failed:
            task, end = self.failed[0]
            raise FailedTasksError(f'{len(self.failed)} tasks failed, first {task.title}:\n{end}')

    def run(self, tuning: list[Training]) -> list[Training]:
        self.carry_out('choosing settings', tuning)
        finals = self.plan.finals(tuning)
        self.carry_out('trainings', finals)
        controls = self.plan.controls(finals)
        self.carry_out('controls', controls)
        return [*tuning, *finals, *controls]


def remaining(seconds: float | None) -> str:
    if seconds is None:
        return ''
    return f'{seconds:.0f} s left' if seconds < 120 else f'{seconds / 60:.0f} min left'


def describe(
    study: Study, plan: Plan, tuning: list[Training], jobs: int, console: Console
) -> None:
    """What there is to do, before it is begun."""
    is_tuned = not unfinished([each.task for each in tuning])
    finals = plan.finals(tuning if is_tuned else None)
    is_trained = is_tuned and not unfinished([each.task for each in finals])
    controls = plan.controls(finals) if is_trained else []
    table = Table(title=f'{study.name}: what there is to do')
    for heading in ('', 'all', 'done'):
        table.add_column(heading, justify='left' if not heading else 'right')
    tasks = [each.task for each in [*tuning, *finals, *controls]]
    needed = each_once(tasks)
    kinds = {'network': 'teachers', 'lesson': "teachers' scores"}
    for kind, name in kinds.items():
        of_kind = [task for task in needed if task.kind == kind]
        if of_kind:
            done = sum(task.result() is not None for task in of_kind)
            table.add_row(name, str(len(of_kind)), str(done))
    phases = {'to choose settings': tuning, 'to compare': finals, 'controls': controls}
    for name, trainings in phases.items():
        done = len({each.task.folder for each in trainings if each.task.result() is not None})
        count = len({each.task.folder for each in trainings})
        if count:
            table.add_row(name, str(count), str(done))
    console.print(table)
    if not is_trained and study.controls and any(arm.beside for arm in study.arms.values()):
        console.print('Controls are planned once their arms are done.')
    waiting = [task for task in needed if task.result() is None]
    known = [task for task in needed if task.result() is not None]
    left = seconds_left(waiting, known, jobs)
    if waiting:
        console.print(
            remaining(left)
            if left is not None
            else 'How long it takes, the first of each kind will tell.'
        )
    else:
        console.print('Nothing is left to train.')


def show(results: Results, console: Console) -> None:
    """The first measures of every arm, for people."""
    for case in results.study.cases:
        table = Table(title=case if len(results.study.cases) > 1 else None)
        table.add_column('', no_wrap=True)
        for heading in ('top-1 %', 'tau', 'ECE %', 'ms a step'):
            table.add_column(heading, justify='right', no_wrap=True)
        teacher = results.teacher(case)
        if teacher is not None:
            table.add_row(f'teacher: {teacher[0]}', f'{teacher[1]:.2f}', '', '', '')
        for row in results.arm_rows():
            if row['case'] != case:
                continue
            cells = [row['arm']]
            for name, digits in (('top1', 2), ('tau', 3), ('ece', 1)):
                value, spread = row.get(name), row.get(f'{name}_sd')
                text = '' if value is None else f'{value:.{digits}f}'
                cells.append(text + (f' ± {spread:.{digits}f}' if spread is not None else ''))
            table.add_row(*cells, f'{1000 * row["seconds_per_step"]:.1f}')
        console.print(table)
    for each in results.differences():
        found = each.difference
        interval = '' if found.low != found.low else f' ({found.low:+.2f} to {found.high:+.2f})'
        console.print(
            f'{each.arm} − {each.rival} [{each.case}], over {each.over}: {found.mean:+.2f} '
            f'points{interval}: {found.verdict}',
            soft_wrap=True,
            markup=False,
            highlight=False,
        )


def main() -> int:
    args = parse_args()
    if args.against is not None:
        tool = ROOT / 'tools' / 'analysis_tools' / 'against_mmrazor.py'
        return subprocess.call([sys.executable, str(tool), *args.against[1:]])
    # A pipe or a file has no width of its own, and a table is cut at 80 columns.
    console = Console(width=None if sys.stdout.isatty() else 140)
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    try:
        study = read_study(args.study)
        plan = Plan(study, args.work_dir.resolve(), commit())
        tuning = plan.tuning()
        describe(study, plan, tuning, args.jobs, console)
        if args.plan:
            return 0
        out = args.out or args.work_dir / study.name
        if args.cluster:
            runner = ClusterJobs(out / 'submitit', args.cluster, args.cluster_options)
        else:
            runner = LocalJobs(args.devices)
        bench = Bench(plan, runner, args.jobs, console)
        trainings = bench.run(tuning)
    except KeyboardInterrupt:
        print('\nStopped. The same command goes on with what is left.', file=sys.stderr)
        return 130
    except (ConfigError, FailedTasksError, ImportError) as error:
        print(f'benchmark.py: error: {error}', file=sys.stderr)
        return 1 if isinstance(error, FailedTasksError) else 2
    results = Results(study, trainings)
    tables = results.write(out)
    write_report(results, out, f'python tools/benchmark.py {shlex.quote(args.study)}')
    show(results, console)
    for name in (*tables, 'report.md', 'report.html'):
        console.print(f'Wrote {out / name}', soft_wrap=True, highlight=False)
    return 0


if __name__ == '__main__':
    sys.exit(main())

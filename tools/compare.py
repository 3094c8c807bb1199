"""Train a teacher and several ways to train its student, over several seeds, and compare them.

    python tools/compare.py --teacher TEACHER_CONFIG \
        --arm "student alone=CONFIG" "KD=CONFIG" "KD + ranking=CONFIG" --seeds 0 1 2
    python tools/compare.py --teacher TEACHER_CONFIG \
        --arm "KD=CONFIG" "slow KD=CONFIG optim_wrapper.optimizer.lr=0.01"

Every run goes through tools/train.py with the settings of its config and the options behind it;
beside them only the seed, the teacher's checkpoint and the teacher's results differ. Reported is
the last epoch. Writes ``results.csv`` and ``results.png`` into the work directory. A run that is
finished is kept, so a stopped comparison goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mmkendall import __version__, compat

compat.apply()

from mmkendall.engine.distill_config import ConfigError, load_config  # noqa: E402

TOOLS = Path(__file__).resolve().parent
# The metrics that are shown, and their headings. The first is also drawn as dots, the second over
# the epochs.
TOP1, TAU, TAU_LOW = 'accuracy/top1', 'kendall/tau_b', 'kendall/tau_b_low'
POLL_SECONDS = 0.5
# A name may hold = and spaces, a config neither.
ARM = re.compile(r'(?P<name>.+?)=(?P<config>[^=\s]+)(?P<options>(\s+[^=\s]+=\S+)*)')


@dataclass
class Run:
    """One training: an arm with a seed.

    Args:
        arm: name of the arm, for people.
        config: path of its config.
        seed: seeds weights, order and augmentation.
        work_dir: where it writes.
        options: ``--cfg-options`` of the arm.
        inputs: those that name what earlier runs wrote.
    """

    arm: str
    config: str
    seed: int
    work_dir: Path
    options: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        cfg = load_config(self.config)
        self.epochs = cfg.train_cfg.max_epochs
        self.distills = 'distiller' in cfg.model
        # A finished run counts only for the settings it was made with.
        settings = [
            __version__,
            str(self.seed),
            *self.options,
            json.dumps(cfg.to_dict(), default=repr),
        ]
        self.fingerprint = hashlib.sha256('\n'.join(settings).encode()).hexdigest()

    @property
    def result_file(self) -> Path:
        return self.work_dir / 'result.json'

    def finished(self) -> dict | None:
        """The result of an earlier run with the same settings, if there is one."""
        if not self.result_file.exists():
            return None
        result = json.loads(self.result_file.read_text())
        return {**result, 'arm': self.arm} if result['fingerprint'] == self.fingerprint else None

    def start(self) -> subprocess.Popen:
        """Starts the training in a process of its own, with one thread and a log file."""
        self.work_dir.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(TOOLS / 'train.py'), self.config]
        command += ['--work-dir', str(self.work_dir)]
        command += ['--cfg-options', f'randomness.seed={self.seed}', *self.options, *self.inputs]
        self.began = time.time()
        with open(self.work_dir / 'train.log', 'w') as log:
            return subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, 'OMP_NUM_THREADS': '1'},
            )

    def curve(self) -> list[dict]:
        """The validations of the present training, one dict of metrics an epoch."""
        files = [
            file
            for file in self.work_dir.glob('*/vis_data/scalars.json')
            if file.stat().st_mtime >= self.began
        ]
        if not files:
            return []
        # The last line may be half written.
        lines = max(files, key=lambda file: file.stat().st_mtime).read_text().split('\n')[:-1]
        return [record for record in map(json.loads, lines) if TOP1 in record]

    def finish(self) -> dict:
        """Writes and returns the result of a training that has just ended."""
        curve = self.curve()
        result = {
            'fingerprint': self.fingerprint,
            'arm': self.arm,
            'seed': self.seed,
            'seconds': time.time() - self.began,
            'curve': curve,
        }
        self.result_file.write_text(json.dumps(result))
        return result


def train_all(runs: list[Run], jobs: int, console: Console) -> list[dict]:
    """Runs what is not finished yet, ``jobs`` at a time, with progress; returns all results."""
    results = {id(run): run.finished() for run in runs}
    waiting = [run for run in runs if results[id(run)] is None]
    if len(waiting) < len(runs):
        console.print(f'{len(runs) - len(waiting)} finished runs are kept; --fresh repeats them.')
    active: dict[int, tuple[Run, subprocess.Popen]] = {}
    columns = (
        TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TextColumn('epochs'),
        TimeRemainingColumn(),
    )  # fmt: skip
    done = 0
    try:
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task('', total=sum(run.epochs for run in waiting))
            while waiting or active:
                while waiting and len(active) < jobs:
                    run = waiting.pop(0)
                    active[id(run)] = (run, run.start())
                time.sleep(POLL_SECONDS)
                for key, (run, process) in list(active.items()):
                    if process.poll() is None:
                        continue
                    del active[key]
                    if process.returncode:
                        log = run.work_dir / 'train.log'
                        tail = '\n'.join(log.read_text().splitlines()[-15:])
                        raise RuntimeError(
                            f'{run.arm}, seed {run.seed} failed:\n{tail}\nLog: {log}'
                        )
                    results[key] = run.finish()
                    done += run.epochs
                running = [run for run, _ in active.values()]
                progress.update(
                    bar,
                    completed=done + sum(len(run.curve()) for run in running),
                    description=', '.join(f'{run.arm} #{run.seed}' for run in running),
                )
    finally:
        for _, process in active.values():
            process.terminate()
            process.wait()
    return [results[id(run)] for run in runs]


def dump_teacher_results(run: Run) -> Path:
    """Writes the trained teacher's predictions on the test images, for the KendallTau metric."""
    out = run.work_dir / 'test.pkl'
    checkpoint = run.work_dir / f'epoch_{run.epochs}.pth'
    if out.exists() and out.stat().st_mtime >= checkpoint.stat().st_mtime:
        return out
    command = [sys.executable, str(TOOLS / 'test.py'), run.config, str(checkpoint)]
    command += ['--work-dir', str(run.work_dir), '--out', str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(
            f'testing the teacher failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}'
        )
    return out


def summarize(results: list[dict]) -> list[dict]:
    """One row an arm: mean and standard deviation over the seeds of the last epoch."""
    rows = []
    for arm in dict.fromkeys(result['arm'] for result in results):
        of_arm = [result for result in results if result['arm'] == arm]
        row = {'arm': arm, 'seeds': len(of_arm)}
        for metric in (TOP1, TAU, TAU_LOW):
            last = [result['curve'][-1].get(metric) for result in of_arm]
            if None not in last:
                row[metric] = statistics.mean(last)
                row[f'{metric}/std'] = statistics.stdev(last) if len(last) > 1 else 0.0
        row['seconds'] = statistics.mean(result['seconds'] for result in of_arm)
        rows.append(row)
    return rows


def print_table(rows: list[dict], console: Console) -> None:
    """The summary, for people."""
    seeds = max(row['seeds'] for row in rows)
    over = f'{seeds} seeds: mean ± standard deviation' if seeds > 1 else '1 seed'
    table = Table(
        caption=f'Last validation, {over}.\n'
        "tau: Kendall's tau-b to the teacher's ranking of the classes;\n"
        'tau low: of the half of the classes that it puts lowest.'
    )
    table.add_column('', no_wrap=True)
    for heading in ('top-1 %', 'tau', 'tau low', 'seconds'):
        table.add_column(heading, justify='right', no_wrap=True)
    for row in rows:
        cells = [row['arm']]
        for metric, digits in ((TOP1, 2), (TAU, 3), (TAU_LOW, 3)):
            if metric not in row:
                cells.append('')
            else:
                spread = f' ± {row[f"{metric}/std"]:.{digits}f}' if row['seeds'] > 1 else ''
                cells.append(f'{row[metric]:.{digits}f}{spread}')
        table.add_row(*cells, f'{row["seconds"]:.0f}')
    console.print(table)


def write_csv(rows: list[dict], path: Path) -> None:
    """The summary, for machines."""
    names = ['arm', 'seeds', *(f'{m}{s}' for m in (TOP1, TAU, TAU_LOW) for s in ('', '/std'))]
    with open(path, 'w', newline='') as file:
        writer = csv.DictWriter(file, [*names, 'seconds'])
        writer.writeheader()
        writer.writerows(rows)


def plot(teacher: dict, results: list[dict], path: Path) -> None:
    """Top-1 of each seed, and tau to the teacher over the epochs."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    arms = list(dict.fromkeys(result['arm'] for result in results))
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, max(4.2, 0.4 * len(arms))), layout='constrained'
    )
    colors = matplotlib.colormaps['tab10' if len(arms) <= 10 else 'tab20'].colors
    for index, arm in enumerate(arms):
        color = colors[index % len(colors)]
        curves = [result['curve'] for result in results if result['arm'] == arm]
        last = [curve[-1][TOP1] for curve in curves]
        left.plot(last, [index] * len(last), 'o', color=color, alpha=0.7)
        left.plot([statistics.mean(last)], [index], '|', color=color, markersize=26)
        taus = [[record[TAU] for record in curve] for curve in curves]
        for tau in taus:
            right.plot(range(1, len(tau) + 1), tau, color=color, alpha=0.3, linewidth=1)
        mean = [statistics.mean(epoch) for epoch in zip(*taus, strict=True)]
        right.plot(range(1, len(mean) + 1), mean, color=color, linewidth=2, label=arm)
    left.axvline(teacher['curve'][-1][TOP1], color='grey', linestyle='--', label='teacher')
    left.set_yticks(range(len(arms)), arms)
    left.set_ylim(len(arms) - 0.5, -0.5)
    left.set_xlabel('top-1 at the last validation, % (dots: seeds, bar: mean)')
    left.legend(loc='lower left')
    right.set_xlabel('epoch')
    right.set_ylabel("Kendall's tau-b to the teacher")
    if len(arms) <= 10:
        right.legend(loc='lower right')
    else:  # They would cover the curves.
        right.legend(loc='upper left', bbox_to_anchor=(1, 1))
    figure.savefig(path, dpi=150)
    plt.close(figure)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--teacher', required=True, help='config of the teacher alone')
    parser.add_argument(
        '--arm',
        nargs='+',
        required=True,
        metavar='NAME=CONFIG',
        help='ways to train the student; behind a config may stand --cfg-options of the arm',
    )
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/compare'))
    parser.add_argument(
        '--jobs', type=int, default=min(2, os.cpu_count() or 1), help='runs at a time'
    )
    parser.add_argument('--fresh', action='store_true', help='repeat finished runs too')
    return parser.parse_args()


def plan(args: argparse.Namespace) -> tuple[Run, list[Run]]:
    """The teacher's run and the students', from the options."""
    arms = {}
    for item in args.arm:
        match = ARM.fullmatch(item)
        if match is None:
            raise ConfigError(
                f'--arm takes "NAME=CONFIG" or "NAME=CONFIG KEY=VALUE", got {item!r}'
            )
        arms[match['name']] = match['config'], match['options'].split()
    if args.jobs < 1:
        raise ConfigError(f'--jobs must be 1 at least, got {args.jobs}')
    teacher = Run('teacher', args.teacher, 0, args.work_dir / 'teacher')
    checkpoint = teacher.work_dir / f'epoch_{teacher.epochs}.pth'
    results = teacher.work_dir / 'test.pkl'
    students = []
    for seed in args.seeds:
        for name, (config, options) in arms.items():
            folder = '-'.join([Path(config).stem, *options, f'seed{seed}']).replace(os.sep, '_')
            run = Run(name, config, seed, args.work_dir / folder, options)
            run.inputs = [f'val_evaluator.1.teacher_results={results}']
            if run.distills:
                run.inputs.append(f'model.teacher_ckpt={checkpoint}')
            students.append(run)
    return teacher, students


def main() -> int:
    args = parse_args()
    # A pipe or a file has no width of its own, and the table is cut at 80 columns.
    console = Console(width=None if sys.stdout.isatty() else 120)
    try:
        teacher, students = plan(args)
    except ConfigError as error:
        print(f'compare.py: error: {error}', file=sys.stderr)
        return 2
    if args.fresh:
        for run in (teacher, *students):
            run.result_file.unlink(missing_ok=True)
    try:
        kept = teacher.finished()
        (teacher_result,) = train_all([teacher], 1, console)
        if kept is None:  # Students of another teacher don't count.
            for run in students:
                run.result_file.unlink(missing_ok=True)
        dump_teacher_results(teacher)
        results = train_all(students, args.jobs, console)
    except KeyboardInterrupt:
        print('\nStopped. The same command goes on with the runs that are left.', file=sys.stderr)
        return 130
    except RuntimeError as error:
        print(f'compare.py: error: {error}', file=sys.stderr)
        return 1
    rows = summarize([teacher_result, *results])
    print_table(rows, console)
    write_csv(rows, args.work_dir / 'results.csv')
    plot(teacher_result, results, args.work_dir / 'results.png')
    for name in ('results.csv', 'results.png'):
        console.print(f'Wrote {args.work_dir / name}', soft_wrap=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())

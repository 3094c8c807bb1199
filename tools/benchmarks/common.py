"""What the benchmarks share: the measurement, one CSV schema, the plot."""

from __future__ import annotations

import argparse
import csv
import ctypes
import importlib.metadata
import inspect
import math
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor

from mmkendall.functional.backends import BACKENDS
from mmkendall.functional.rank_loss import kendall_rank_loss

PACKAGES = ('mmkendall', 'torch', 'numba', 'triton', 'numpy', 'scipy', 'torchmetrics', 'torchsort')
# `subject` is what ran and `baseline` what it ran beside; `ratio` is the baseline's median time
# over the subject's. Errors are against the definition in float64: of the value, the largest; of
# the gradient, as a share of its norm.
FIELDS = (
    *('benchmark', 'case', 'rows', 'classes', 'steepness', 'surrogate', 'dtype'),
    *('subject', 'baseline', 'median_s', 'p20_s', 'p80_s', 'repeats', 'extra_bytes', 'ratio'),
    *('value_error', 'grad_error', 'device', 'threads', 'python', 'commit', 'versions'),
)
# What a table shows of a benchmark, under the heading that it has there.
COLUMNS = {
    'rank_loss_speed': (
        *('case', 'dtype', 'surrogate', 'subject', 'median_s', 'spread', 'extra_bytes', 'ratio'),
        *('value_error', 'grad_error'),
    ),
    'class_scaling': (
        *('case', 'classes', 'subject', 'median_s', 'spread', 'extra_bytes', 'ratio'),
    ),
    'training_step_share': (
        *('case', 'rows', 'classes', 'steepness', 'subject', 'median_s', 'spread', 'share'),
    ),
    'linear_head': ('case', 'subject', 'median_s', 'spread', 'extra_bytes', 'ratio'),
    'loss_costs': ('case', 'subject', 'median_s', 'spread', 'extra_bytes', 'times'),
    'tau_speed': ('case', 'subject', 'median_s', 'spread', 'extra_bytes', 'ratio'),
}
HEADINGS = dict(
    rows='N',
    classes='C',
    steepness='k',
    median_s='median',
    extra_bytes='memory',
    share='share of the step',
    times='times KL',
    value_error='value\nerror',
    grad_error='gradient\nerror',
)
CAPTION = 'spread: of the 20th and 80th percentile from the median, %'
MIN_REPEATS, MAX_REPEATS = 3, 200
# Calls of a subject that takes so many within so many seconds, however few the turns are.
QUICK_CALLS, QUICK_SECONDS = 15, 2.0
# A baseline whose call takes longer, in seconds, is not warmed up.
LONG_CALL = 2.0
# One that takes longer, in seconds, has filled the caches for itself soon enough.
ALONE_CALL = 0.1
console = Console()


def parse_arguments(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('--short', action='store_true', help='the cases of `make bench` alone')
    parser.add_argument('--device', default='cpu', help='cpu or cuda')
    parser.add_argument('--threads', type=int, default=1, help="torch's threads")
    parser.add_argument('--seconds', type=float, default=3.0, help='time for a case, about')
    parser.add_argument(
        '--output-dir', type=Path, default=Path('docs/benchmarks'), help='for the CSV and the plot'
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    return options


def environment(options: argparse.Namespace) -> dict[str, object]:
    """The columns that say where a figure comes from."""
    installed = []
    for name in PACKAGES:
        try:
            installed.append(f'{name} {importlib.metadata.version(name)}')
        except importlib.metadata.PackageNotFoundError:
            continue
    # The benchmark before this one has written its figures by now.
    changed = git(
        'status', '--porcelain', '--untracked-files=no', '--', ':/', ':(top,exclude)docs'
    )
    on_cuda = torch.device(options.device).type == 'cuda'
    return {
        'device': torch.cuda.get_device_name() if on_cuda else cpu_name(),
        'threads': options.threads,
        'python': platform.python_version(),
        'commit': git('rev-parse', '--short', 'HEAD') + ('-dirty' if changed else ''),
        'versions': '; '.join(installed),
    }


def git(*arguments: str) -> str:
    done = subprocess.run(
        ['git', *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def cpu_name() -> str:
    cpuinfo = Path('/proc/cpuinfo')
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith('model name'):
                return line.split(':', 1)[1].strip()
    return platform.processor() or platform.machine()


def draw_logits(
    rows: int,
    classes: int,
    device: str,
    dtype: torch.dtype = torch.float32,
    spread: float = 2.5,
) -> tuple[Tensor, Tensor]:
    """A student's logits, which require a gradient, and a teacher's that correlate with them."""
    generator = torch.Generator().manual_seed(0)
    preds_T = spread * torch.randn(rows, classes, generator=generator)
    preds_S = 0.7 * preds_T + 0.7 * spread * torch.randn(rows, classes, generator=generator)
    return preds_S.to(device, dtype).requires_grad_(), preds_T.to(device, dtype)


def backends_for(options: argparse.Namespace, classes: int, surrogate: str = 'product') -> list:
    """The names of the backends that run on this device."""
    device = torch.device(options.device)
    return [
        name
        for name, backend in BACKENDS.items()
        if backend.unavailable(device, torch.float32, classes, surrogate) is None
        and not (name == 'triton' and device.type == 'cpu')  # the interpreter is no yardstick
    ]


def algorithms_of(backend: str) -> tuple[str, ...]:
    """The algorithms that a backend can be held to."""
    module = BACKENDS[backend]
    if 'algorithm' not in inspect.signature(module.rank_loss).parameters:
        return ()
    return tuple(name for name in getattr(module, 'ALGORITHMS', ()) if name != 'auto')


def train_step(preds_S: Tensor, loss: Callable[[], Tensor]) -> Callable[[], None]:
    """Forward and backward of a loss of ``preds_S``."""

    def step() -> None:
        preds_S.grad = None
        loss().backward()

    return step


def rank_loss_step(
    preds_S: Tensor, preds_T: Tensor, steepness: float, surrogate: str, backend: str
) -> Callable[[], None]:
    return train_step(
        preds_S,
        lambda: kendall_rank_loss(preds_S, preds_T, steepness, surrogate, backend=backend),
    )


def errors(
    preds_S: Tensor, preds_T: Tensor, steepness: float, surrogate: str, backend: str
) -> dict[str, float]:
    """The value's and the gradient's error on the first two rows, against float64."""
    found = []
    for name, dtype in ((backend, preds_S.dtype), ('reference', torch.float64)):
        rows_S = preds_S.detach()[:2].to(dtype).requires_grad_()
        rows_T = preds_T[:2].to(dtype)
        losses = kendall_rank_loss(rows_S, rows_T, steepness, surrogate, 'none', backend=name)
        losses.sum().backward()
        found.append((losses.detach().double(), rows_S.grad.double()))
    (losses, grad), (exact_losses, exact_grad) = found
    return {
        'value_error': (losses - exact_losses).abs().max().item(),
        'grad_error': ((grad - exact_grad).norm() / exact_grad.norm()).item(),
    }


def seconds(call: Callable[[], None], device: str) -> float:
    if device != 'cpu':
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if device != 'cpu':
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_extra_bytes(call: Callable[[], None], device: str) -> int | None:
    """The most memory that was in use during a call, less that before it; None if unknown."""
    if device != 'cpu':
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    if not os.access('/proc/self/clear_refs', os.W_OK):
        call()
        return None
    # What earlier calls freed must not serve this one unseen.
    ctypes.CDLL(None).malloc_trim(0)
    Path('/proc/self/clear_refs').write_text('5')  # sets VmHWM back to VmRSS
    before = status_bytes('VmRSS')
    call()
    return max(0, status_bytes('VmHWM') - before)


def status_bytes(field: str) -> int:
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith(field + ':'):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def measure(
    benchmark: str,
    case: dict[str, object],
    calls: dict[str, Callable[[], None]],
    baseline: str,
    options: argparse.Namespace,
    progress: Progress,
    alone: bool = True,
) -> list[dict[str, object]]:
    """Times the calls in turns, so that what disturbs the machine disturbs all of them.

    Args:
        benchmark: name of the benchmark.
        case: columns that say what was measured.
        calls: what to time, by subject.
        baseline: the subject that ``ratio`` refers to.
        alone: whether to call a subject that takes no ``ALONE_CALL`` once more before it is timed,
            so that it does not pay for the caches that another, with gigabytes, has left behind.

    Returns:
        A row for each subject.
    """
    label = ' '.join(str(value) for value in case.values() if value != '')
    task = progress.add_task(f'{benchmark} {label}', total=None)
    extra, once = {}, {}
    for name, call in calls.items():
        start = time.perf_counter()
        extra[name] = peak_extra_bytes(call, options.device)
        once[name] = time.perf_counter() - start
        # The first call of another may have compiled something.
        if name != baseline or once[name] < LONG_CALL:
            once[name] = seconds(call, options.device)
            extra[name] = peak_extra_bytes(call, options.device)
    repeats = int(options.seconds / max(sum(once.values()), 1e-9))
    repeats = min(MAX_REPEATS, max(MIN_REPEATS, repeats))
    # Beside a slow one there are few turns: a quick one is called several times in each.
    in_turn = {
        name: max(1, min(QUICK_CALLS, int(QUICK_SECONDS / once[name])) // repeats)
        for name in calls
    }
    progress.update(task, total=repeats)
    times = {name: [] for name in calls}
    for turn in range(repeats):
        names = list(calls)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            if alone and once[name] < ALONE_CALL:
                calls[name]()
            for _ in range(in_turn[name]):
                times[name].append(seconds(calls[name], options.device))
        progress.advance(task)
    progress.remove_task(task)
    median = {name: statistics.median(times[name]) for name in calls}
    rows = []
    for name in calls:
        quantiles = statistics.quantiles(times[name], n=10, method='inclusive')
        rows.append(
            {
                'benchmark': benchmark,
                **case,
                'subject': name,
                'baseline': baseline,
                'median_s': median[name],
                'p20_s': quantiles[1],
                'p80_s': quantiles[7],
                'repeats': len(times[name]),
                'extra_bytes': extra[name],
                'ratio': median[baseline] / median[name],
            }
        )
    return rows


def measure_all(
    measure_case: Callable, cases: Iterable[object], options: argparse.Namespace
) -> list[dict[str, object]]:
    """The rows of all cases, with a progress bar meanwhile.

    Args:
        measure_case: takes a case, the options and the bar, and returns rows of :func:`measure`.
        cases: whatever it can measure.
        options: of the command line.
    """
    with Progress(transient=True) as progress:
        return [row for case in cases for row in measure_case(case, options, progress)]


def save(
    benchmark: str, rows: list[dict[str, object]], options: argparse.Namespace
) -> tuple[Path, Path]:
    """Writes the CSV and says where it and its plot belong."""
    options.output_dir.mkdir(parents=True, exist_ok=True)
    kind = torch.device(options.device).type
    stem = options.output_dir / f'{benchmark}_{kind}_{options.threads}t'
    where = environment(options)
    path = stem.with_suffix('.csv')
    with path.open('w', newline='') as file:
        writer = csv.DictWriter(file, FIELDS, restval='')
        writer.writeheader()
        writer.writerows({**row, **where} for row in rows)
    return path, stem.with_suffix('.png')


def show(rows: list[dict[str, object]], title: str) -> None:
    """Prints a benchmark's rows. A column that is the same in all of them goes into the title, so
    that the short form fits into 80 columns."""
    cells = {name: [readable(name, row) for row in rows] for name in COLUMNS[rows[0]['benchmark']]}
    same = [name for name in cells if len(set(cells[name])) == 1 and cells[name][0]]
    if same:
        title += '\n' + ', '.join(f'{heading(name)}: {cells.pop(name)[0]}' for name in same)
    table = Table(title=title, caption=CAPTION, box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    for name in cells:
        table.add_column(heading(name), justify='left' if name in ('case', 'subject') else 'right')
    for line in zip(*cells.values(), strict=True):
        table.add_row(*line)
    console.print(table)


def heading(column: str) -> str:
    return HEADINGS.get(column, column)


def three_digits(number: float) -> str:
    """Three significant digits; large numbers without an exponent."""
    text = f'{number:.3g}'
    return f'{float(text):.0f}' if 'e+' in text else text


def readable(column: str, row: dict[str, object]) -> str:
    """The cell of a table; the row may come from a CSV, as strings."""
    if column == 'spread':
        low, high = (float(row[name]) / float(row['median_s']) - 1 for name in ('p20_s', 'p80_s'))
        return f'{100 * low:+.0f} {100 * high:+.0f}'
    if column == 'share':
        return f'{three_digits(share(row))} %'
    if column == 'times':
        return f'{three_digits(share(row) / 100)}x'
    value = row.get(column, '')
    if value in ('', None):
        return ''
    if column == 'median_s':
        return in_units(float(value), {'s': 1, 'ms': 1e-3, 'µs': 1e-6})
    if column == 'extra_bytes':
        return in_units(float(value), {'GB': 1e9, 'MB': 1e6, 'kB': 1e3})
    if column in ('value_error', 'grad_error'):
        return f'{float(value):.1e}'
    if column in ('ratio', 'steepness'):
        return three_digits(float(value))
    return str(value)


def in_units(number: float, units: dict[str, float]) -> str:
    """A number in the first unit that it reaches, or in the last."""
    unit = next((unit for unit, size in units.items() if number >= size), list(units)[-1])
    return f'{three_digits(number / units[unit])} {unit}'


def share(row: dict[str, object]) -> float:
    """The time of the subject as a percentage of the baseline's."""
    return 100 / float(row['ratio'])


def growth_exponent(classes: list[int], times: list[float]) -> float:
    """The slope of log(time) over log(classes), by least squares."""
    return statistics.linear_regression(
        [math.log(number) for number in classes], [math.log(time_) for time_ in times]
    ).slope

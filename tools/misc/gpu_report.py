"""Whether the CUDA kernels are right on this machine's GPU, and how fast: a page to attach.

    make gpu
    python tools/misc/gpu_report.py --output work_dirs/gpu

Needs torch, Triton and NumPy, and no network. Every part runs in a process of its own within its
share of ten minutes, so that a kernel that kills the device ends its part alone; parts that need
OpenMMLab, pytest or compute-sanitizer are skipped with a word where those are missing. Writes
``report.md``, ``results.csv`` and ``speed.svg``, and returns 1 if a part failed.

``--rehearse`` runs all parts on a CPU, in Triton's interpreter and on tiny sizes: it shows that
the command works, and nothing about a GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib.metadata
import importlib.util
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from itertools import product
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / 'tools' / 'benchmarks')]

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from mmkendall import functional, kendall_rank_loss  # noqa: E402
from mmkendall.functional.backends import eager, reference, self_check, triton_cuda  # noqa: E402

KERNELS = [
    *((surrogate, 'dense') for surrogate in triton_cuda.SURROGATES),
    *((surrogate, 'window') for surrogate in triton_cuda.WINDOW_SURROGATES),
]
Row = dict[str, object]


class SkippedError(Exception):
    """A part that this machine cannot run, with the reason."""


def draw(rows: int, classes: int, device: str, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits of a student and of a teacher that it resembles, N(0, 2.5)."""
    generator = torch.Generator().manual_seed(seed)
    teacher = 2.5 * torch.randn(rows, classes, generator=generator)
    student = 0.7 * teacher + 1.75 * torch.randn(rows, classes, generator=generator)
    return student.to(device), teacher.to(device)


def environment(device: str) -> list[Row]:
    """Versions, and the device."""
    names = ['torch', 'triton', 'numpy', 'mmengine', 'mmcv', 'mmcv-lite', 'mmpretrain', 'mmrazor']
    rows = [{'case': 'Python', 'result': sys.version.split()[0]}]
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            rows.append({'case': name, 'result': importlib.metadata.version(name)})
    rows.append({'case': 'build of torch', 'result': torch.__version__})
    if device == 'cuda':
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            memory = f'{properties.total_memory / 2**30:.0f} GiB'
            capability = f'compute capability {properties.major}.{properties.minor}'
            rows.append(
                {'case': f'GPU {index}', 'result': f'{properties.name}, {memory}, {capability}'}
            )
    commit = subprocess.run(
        ['git', 'describe', '--always', '--dirty'],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    rows.append({'case': 'commit', 'result': commit.stdout.strip() or 'unknown'})
    return rows


def checks(device: str) -> list[Row]:
    """What `auto` asks of each kernel before it relies on it, and how long that takes once."""
    rows = []
    for surrogate, algorithm in KERNELS:
        kind = ('triton', algorithm, device, surrogate)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            started = time.perf_counter()
            passed = self_check.passes(kind, triton_cuda, 10.0, torch.device(device))
            seconds = time.perf_counter() - started
        result = 'passes' if passed else f'FAILS: {self_check.failures()[kind]}'
        case = f'{surrogate}, {algorithm}'
        rows.append({'case': case, 'result': f'{result} ({seconds:.1f} s with compilation)'})
    return rows


def definition(device: str) -> list[Row]:
    """The largest errors of value and gradient against the definition in float64."""
    shapes = [(3, 2), (4, 33), (16, 100), (37, 1111), (4, 2049)]
    shapes = shapes if device == 'cuda' else shapes[:2]
    rows = []
    for surrogate, algorithm in KERNELS:
        worst = [0.0, 0.0]
        for (count, classes), steepness in product(shapes, (0.5, 1.0, 10.0, 100.0)):
            preds_S, preds_T = draw(count, classes, device)
            losses, grad = triton_cuda.rank_loss(
                preds_S, preds_T, steepness, surrogate, True, algorithm=algorithm
            )
            exact = preds_S.double().requires_grad_()
            expected = reference.rank_loss(exact, preds_T.double(), steepness, surrogate)
            (slope,) = torch.autograd.grad(expected.sum(), exact)
            floor = 1e-7 * steepness / classes  # Of pairs that are saturated, all of them.
            off = (grad - slope).norm() / (slope.norm() + floor)
            # A logistic value is far above 2 where a steep one is wrong.
            value_off = (losses - expected).abs() / (expected / 2).clamp(min=1)
            worst[0] = max(worst[0], value_off.max().item())
            worst[1] = max(worst[1], off.item())
        rows.append(_errors(f'{surrogate}, {algorithm}', *worst))
    return rows


def _errors(case: str, value_error: float, grad_error: float) -> Row:
    right = value_error <= 1e-6 and grad_error <= 1e-5
    found = f'value off by {value_error:.1e} (1e-6), gradient by {grad_error:.1e} (1e-5)'
    return {
        'case': case,
        'result': found if right else f'FAILS: {found}',
        'value_error': value_error,
        'grad_error': grad_error,
    }


def sines(device: str) -> list[Row]:
    """Torch operations with sums of sines against float64, where TF32 is allowed, too."""
    count = 100_000 if device == 'cuda' else 1000
    preds_S, preds_T = draw(2, count, device)
    exact = eager.rank_loss(preds_S.double(), preds_T.double(), 1.0, 'product', True)
    rows, before = [], torch.get_float32_matmul_precision()
    for precision in ('highest', 'high'):
        torch.set_float32_matmul_precision(precision)
        if device == 'cuda':
            preds = preds_S.clone().requires_grad_()
            losses = kendall_rank_loss(preds, preds_T, 1.0, reduction='none')
            (grad,) = torch.autograd.grad(losses.sum(), preds)
        else:
            losses, grad = eager.rank_loss(preds_S, preds_T, 1.0, 'product', True)
        off = (losses - exact[0]).abs().max(), (grad - exact[1]).norm() / exact[1].norm()
        case = f'auto, {count:,} classes, products of {precision} precision'
        rows.append(_errors(case, *(number.item() for number in off)))
        torch.set_float32_matmul_precision(before)
    if device == 'cuda':
        taken = eager.beats_all_pairs(preds_S, preds_T, 1.0, 'product')
        result = 'sums of sines' if taken else 'FAILS: all pairs'
        rows.append({'case': f'auto, {count:,} classes, k = 1', 'result': result})
    return rows


def repeated(device: str) -> list[Row]:
    """The same bits from the same input, alone and in a CUDA graph."""
    rows = []
    shapes = [(256, 1000), (8, 21_841)] if device == 'cuda' else [(2, 40)]
    for (surrogate, algorithm), shape in product(KERNELS, shapes):
        preds = draw(*shape, device)

        def run(surrogate=surrogate, algorithm=algorithm, preds=preds) -> tuple[Tensor, Tensor]:
            return triton_cuda.rank_loss(
                *preds, 10.0, surrogate, True, average=True, algorithm=algorithm
            )

        first = run()
        same = all(
            torch.equal(one, other)
            for _ in range(5)
            for one, other in zip(run(), first, strict=True)
        )
        captured = 'not tried'
        if device == 'cuda':
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                inside = run()
            graph.replay()
            torch.cuda.synchronize()
            equal = all(torch.equal(a, b) for a, b in zip(inside, first, strict=True))
            captured = 'the same bits' if equal else 'FAILS: other bits'
        result = 'the same bits' if same else 'FAILS: other bits'
        case = f'{surrogate}, {algorithm}, {shape}'
        rows.append({'case': case, 'result': f'{result}; in a CUDA graph: {captured}'})
    return rows


def suite(device: str) -> list[Row]:
    """The test file of the kernels, as it is."""
    missing = [name for name in ('pytest', 'hypothesis') if not importlib.util.find_spec(name)]
    if missing:
        raise SkippedError(f'{" and ".join(missing)} not installed')
    if device == 'cpu':
        raise SkippedError('a rehearsal leaves it to `make test`')
    # The fixtures of tests/conftest.py need OpenMMLab, which the kernels do not.
    command = [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', '--noconftest']
    done = subprocess.run(
        [*command, 'tests/test_functional/check_triton_kernels.py'],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    last = lines[-1].strip('= ') if lines else done.stderr.strip()[-300:]
    failed = [line for line in lines if line.startswith('FAILED')]
    rows = [{'case': 'pytest', 'result': f'FAILS: {last}' if done.returncode else last}]
    return rows + [{'case': 'failed', 'result': line[7:200]} for line in failed[:20]]


def racecheck(device: str) -> list[Row]:
    """NVIDIA's race detector over the comparison with the definition."""
    tool = shutil.which('compute-sanitizer')
    if tool is None:
        raise SkippedError('compute-sanitizer is not on the PATH')
    if device == 'cpu':
        raise SkippedError('a rehearsal has no device')
    command = [tool, '--tool', 'racecheck', '--error-exitcode', '9', sys.executable, __file__]
    done = subprocess.run(
        [*command, '--part', 'races'], capture_output=True, text=True, check=False
    )
    lines = [line for line in done.stdout.splitlines() if 'RACECHECK SUMMARY' in line]
    found = lines[-1].strip('= ') if lines else done.stdout.strip()[-200:]
    return [{'case': 'racecheck', 'result': f'FAILS: {found}' if done.returncode else found}]


def races(device: str) -> list[Row]:
    """Few small launches of every kernel, for racecheck, which is slow."""
    for (surrogate, algorithm), average in product(KERNELS, (False, True)):
        preds = draw(3, 200, device)
        triton_cuda.rank_loss(*preds, 10.0, surrogate, True, average=average, algorithm=algorithm)
    return []


def timed(call: Callable[[], object], device: str, least: float = 0.2) -> float:
    """The median of the seconds that a call takes, the device's work included."""
    wait = torch.cuda.synchronize if device == 'cuda' else lambda: None

    def once() -> float:
        started = time.perf_counter()
        call()
        wait()
        return time.perf_counter() - started

    # Compiles, and lets allocators and caches settle.
    first, second = once(), once()
    if second > 1:  # What takes seconds is known well enough.
        return min(first, second)
    times: list[float] = []
    while sum(times) < least or len(times) < 5:
        times.append(once())
    return statistics.median(times)


def peak_bytes(call: Callable[[], object], device: str) -> int | None:
    """The most memory that a call takes beside what is in use already."""
    if device != 'cuda':
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def speed(device: str) -> list[Row]:
    """Forward and backward of each backend, beside KL and the definition in the same run."""
    shapes = [(128, 100), (256, 1000), (64, 21_841), (8, 128_256)]
    shapes = shapes if device == 'cuda' else [(2, 20)]
    cases = [(*case, 'product') for case in product(shapes, (1.0, 10.0, 100.0))]
    shapes = [(256, 1000), (64, 4096), *shapes[2:]] if device == 'cuda' else shapes
    cases += [(shape, 10.0, 'logistic') for shape in shapes]
    rows = []
    for (count, classes), steepness, surrogate in cases:
        student, preds_T = draw(count, classes, device)
        preds_S = student.requires_grad_()

        def step(loss: Callable[[], Tensor], preds_S=preds_S) -> Callable[[], None]:
            def run() -> None:
                preds_S.grad = None
                loss().backward()

            return run

        calls = {
            'KL': step(
                lambda s=preds_S, t=preds_T: F.kl_div(
                    F.log_softmax(s, 1), F.softmax(t, 1), reduction='batchmean'
                )
            )
        }
        backends = ['triton', 'eager']
        if classes >= eager.MIN_CLASSES_ON_GPU and device == 'cuda':
            backends.append('auto')
        if count * classes**2 * 12 < 20e9:
            backends.append('reference')
        for name in backends:
            calls[name] = step(
                lambda s=preds_S, t=preds_T, options=(steepness, surrogate), name=name: (
                    kendall_rank_loss(s, t, *options, backend=name)
                )
            )
        if device == 'cuda':
            options = steepness, surrogate
            calls['triton in a CUDA graph'] = captured(preds_S.detach(), preds_T, *options)
        seconds = {name: timed(call, device) for name, call in calls.items()}
        for name, call in calls.items():
            extra = peak_bytes(call, device) if seconds[name] < 1 else None
            memory = '' if extra is None else f', {extra / 2**20:.1f} MiB'
            rows.append(
                {
                    'case': f'{surrogate}, ({count}, {classes}), k = {steepness:g}, {name}',
                    'result': f'{seconds[name] * 1e3:.3f} ms, '
                    f'{seconds[name] / seconds["KL"]:.1f} times KL{memory}',
                    'rows': count,
                    'classes': classes,
                    'steepness': steepness,
                    'subject': name,
                    'seconds': seconds[name],
                    'extra_bytes': extra,
                }
            )
    return rows


def captured(
    preds_S: Tensor, preds_T: Tensor, steepness: float, surrogate: str
) -> Callable[[], None]:
    """Replays the kernels of a call: what it takes of the device alone, without Python's part."""

    def run() -> None:
        triton_cuda.rank_loss(preds_S, preds_T, steepness, surrogate, True, average=True)

    run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def step_share(device: str) -> list[Row]:
    """The loss beside a ResNet-18 training step in mixed precision, 224 x 224."""
    from networks import resnet18

    batch, side = (256, 224) if device == 'cuda' else (2, 32)
    rows = []
    for classes in (100, 1000):
        torch.manual_seed(0)
        network = resnet18(classes).to(device).to(memory_format=torch.channels_last)
        images = torch.randn(batch, 3, side, side, device=device)
        images = images.contiguous(memory_format=torch.channels_last)
        labels = torch.randint(classes, (batch,), device=device)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
        scaler = torch.cuda.amp.GradScaler(enabled=False)
        if device == 'cuda':  # Newer torch has one for all devices.
            newer = getattr(torch.amp, 'GradScaler', None)
            scaler = newer('cuda') if newer else torch.cuda.amp.GradScaler()
        dtype = torch.float16 if device == 'cuda' else torch.bfloat16

        preds_S, preds_T = draw(batch, classes, device)
        preds_S.requires_grad_()

        def train(
            steepness=None, network=network, images=images, labels=labels, optimizer=optimizer,
            scaler=scaler, dtype=dtype, preds_T=preds_T,
        ) -> None:  # fmt: skip
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device, dtype=dtype):
                logits = network(images)
                loss = F.cross_entropy(logits, labels)
            if steepness is not None:
                loss = loss + kendall_rank_loss(
                    logits.float(), preds_T, steepness, backend='triton'
                )
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()

        for steepness in (1.0, 100.0):
            alone = timed(
                lambda s=preds_S, t=preds_T, k=steepness: kendall_rank_loss(
                    s, t, k, backend='triton'
                ).backward(),
                device,
            )
            plain, with_loss = [], []
            # By turns, so that a device that slows down does so for both.
            for _ in range(5 if device == 'cuda' else 1):
                plain.append(timed(train, device, 0.3))
                with_loss.append(timed(lambda k=steepness: train(k), device, 0.3))
            whole = statistics.median(plain)
            added = statistics.median(with_loss) - whole
            for subject, seconds in (
                ('alone, beside a ResNet-18 step', alone),
                ('added to a ResNet-18 step', added),
            ):
                rows.append(
                    {
                        'case': f'{classes} classes, k = {steepness:g}, batch {batch}, {subject}',
                        'result': f'{seconds * 1e3:.3f} ms of {whole * 1e3:.1f} ms: '
                        f'{100 * seconds / whole:.2f} %',
                        'classes': classes,
                        'steepness': steepness,
                        'subject': subject,
                        'seconds': seconds,
                        'share_percent': 100 * seconds / whole,
                    }
                )
    return rows


def compiled(device: str) -> list[Row]:
    """The loss inside torch.compile, as a whole graph."""
    if not hasattr(torch, 'compile') or not hasattr(torch.library, 'custom_op'):
        raise SkippedError(f'torch {torch.__version__} compiles no operator of ours')
    if device == 'cpu':
        raise SkippedError('a rehearsal leaves it to `make test`')
    rows = []
    for steepness in (1.0, 100.0):
        preds_S, preds_T = draw(64, 1000, device)
        found = []
        for run in (kendall_rank_loss, torch.compile(kendall_rank_loss, fullgraph=True)):
            logits = preds_S.clone().requires_grad_()
            loss = run(logits * 2, preds_T, steepness)
            loss.backward()
            found.append((loss.detach(), logits.grad))
        same = all(torch.allclose(a, b, atol=1e-7) for a, b in zip(*found, strict=True))
        result = 'equal to the plain call' if same else 'FAILS: another result'
        rows.append({'case': f'k = {steepness:g}', 'result': result})
    return rows


def _every_loss() -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Of each loss and measure of ``mmkendall.functional`` a call, of student and teacher."""
    shape = 12, 40
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(shape[1], shape[:1], generator=generator)
    rows = torch.rand(shape[:1], generator=generator) > 0.3
    classes = torch.rand(shape, generator=generator) > 0.3
    places = torch.stack([torch.randperm(shape[1], generator=generator)[:9] for _ in rows])
    head = torch.randn(50, shape[1], generator=generator, dtype=torch.float64)

    def here(tensor: Tensor, preds: Tensor) -> Tensor:
        return tensor.to(preds.device, preds.dtype if tensor.is_floating_point() else None)

    def stored(preds_S: Tensor, preds_T: Tensor) -> Tensor:
        ids = here(places, preds_T)
        return functional.kendall_rank_loss_topk(preds_S, ids, preds_T.gather(1, ids))

    def linear(preds_S: Tensor, preds_T: Tensor) -> Tensor:
        weight = here(head, preds_S)
        return functional.linear_kendall_rank_loss(
            preds_S, weight, preds_T, weight, 0.3, chunk_size=5
        )

    calls = {
        'kendall_rank_loss_topk': stored,
        'linear_kendall_rank_loss': linear,
        'ctkd_loss': lambda s, t: functional.ctkd_loss(s, t, s.new_tensor(4.0)),
        'dkd_loss': lambda s, t: functional.dkd_loss(s, t, here(labels, s)),
        'listmle_loss of top 5': lambda s, t: functional.listmle_loss(s, t, topk=5),
        'pld_loss with labels': lambda s, t: functional.pld_loss(s, t, here(labels, s)),
        'order_scores': lambda s, t: functional.order_scores(t) + 0 * s,
        'standardize': lambda s, t: functional.standardize(s) * t,
        'live_pair_share': lambda s, t: functional.live_pair_share(s) + 0 * s.sum(),
        'pair_shares': lambda s, t: torch.stack(functional.pair_shares(s, t)) + 0 * s.sum(),
        'kendall_tau': lambda s, t: functional.kendall_tau(s, t) + 0 * s.sum(),
    }
    for name in (
        *('bild_loss', 'dist_loss', 'kd_loss', 'kendall_rank_loss', 'listmle_loss', 'mlkd_loss'),
        *('pearson_loss', 'pld_loss', 'wttm_loss'),
    ):
        calls[name] = getattr(functional, name)
    masked = 'bild_loss', 'kendall_rank_loss', 'listmle_loss', 'pld_loss', 'wttm_loss'
    for name in masked:
        calls[f'{name} with masks'] = lambda s, t, loss=calls[name]: loss(
            s, t, mask=here(rows, s), class_mask=here(classes, s)
        )
    return calls


def losses(device: str) -> list[Row]:
    """Every loss and measure of ``mmkendall.functional`` here and on the CPU, in both dtypes."""
    rows = []
    for name, call in _every_loss().items():
        worst = {}
        for dtype, most in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
            found = []
            for where, kind in (('cpu', torch.float64), (device, dtype)):
                student, teacher = (logits.to(kind) for logits in draw(12, 40, where))
                student.requires_grad_()
                value = call(student, teacher)
                (grad,) = torch.autograd.grad(value.sum(), student)
                found.append((value.detach().double().cpu(), grad.double().cpu()))
            off = [
                ((one - other).norm() / (one.norm() + 1e-12)).item()
                for one, other in zip(*found, strict=True)
            ]
            worst[dtype] = max(off), most
        text = ', '.join(f'{off:.1e} ({most:g})' for off, most in worst.values())
        right = all(off <= most for off, most in worst.values())
        rows.append({'case': name, 'result': text if right else f'FAILS: {text}'})
    return rows


def _rank_step(rank: int, world: int, device: str, folder: str) -> None:
    """One rank's gradient of a linear head, and that of one process on the whole batch."""
    backend = 'nccl' if device == 'cuda' else 'gloo'
    dist.init_process_group(
        backend, init_method=f'file://{folder}/meeting', rank=rank, world_size=world
    )
    here = f'cuda:{rank}' if device == 'cuda' else 'cpu'
    if device == 'cuda':
        torch.cuda.set_device(rank)
    student, teacher = draw(8 * world, 30, here)
    torch.manual_seed(0)
    head = torch.nn.Linear(30, 30).to(here)
    kendall_rank_loss(head(student), teacher, 2.0).backward()
    whole, head.weight.grad = head.weight.grad.clone(), None
    part = slice(8 * rank, 8 * rank + 8)
    parallel = torch.nn.parallel.DistributedDataParallel(head)
    kendall_rank_loss(parallel(student[part]), teacher[part], 2.0).backward()
    off = (head.weight.grad - whole).norm() / whole.norm()
    Path(folder, f'rank{rank}').write_text(str(off.item()))
    del parallel
    dist.barrier()
    dist.destroy_process_group()
    # Up to Python 3.13, a thread of torch that asks for the interpreter while it shuts down aborts
    # the process. Nothing is left to do here that needs a shutdown.
    sys.stdout.flush()
    os._exit(0)


def ranks(device: str) -> list[Row]:
    """DistributedDataParallel over as many GPUs as there are, against one process."""

    world = torch.cuda.device_count() if device == 'cuda' else 2
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_rank_step, (world, device, folder), world)
        off = max(float(file.read_text()) for file in Path(folder).glob('rank*'))
    result = f'gradient off by {off:.1e} of its norm (1e-5)'
    backend = 'NCCL' if device == 'cuda' else 'gloo'
    return [
        {
            'case': f'{backend}, {world} process{"es" if world > 1 else ""}',
            'result': result if off <= 1e-5 else f'FAILS: {result}',
        }
    ]


def openmmlab(device: str) -> list[Row]:
    """One epoch of the digits with the ranking loss in mixed precision, by tools/train.py."""
    missing = [
        name
        for name in ('mmengine', 'mmpretrain', 'mmrazor', 'sklearn')
        if not importlib.util.find_spec(name)
    ]
    if missing:
        raise SkippedError(f'{", ".join(missing)} not installed')
    if device == 'cpu':
        raise SkippedError('a rehearsal leaves it to `make test`')

    pair = 'resnet18-w16_resnet18-w4_1xb64_digits'
    configs, tool = REPOSITORY / 'configs' / 'digits', REPOSITORY / 'tools' / 'train.py'
    path = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get('PYTHONPATH'))))
    with tempfile.TemporaryDirectory() as folder:
        for config, options, more in (
            ('resnet18-w16_1xb64_digits.py', [], []),
            (f'kd-rank_logits_{pair}.py', ['model.teacher_ckpt=teacher/epoch_1.pth'], ['--amp']),
        ):
            name = 'student' if options else 'teacher'
            command = [sys.executable, str(tool), str(configs / config), '--work-dir', name, *more]
            done = subprocess.run(
                [*command, '--cfg-options', 'train_cfg.max_epochs=1', *options],
                cwd=folder, capture_output=True, text=True, check=False,
                env=os.environ | {'PYTHONPATH': path},
            )  # fmt: skip
            if done.returncode:
                lines = done.stderr.strip().splitlines()
                return [{'case': config, 'result': f'FAILS: {lines[-1][:300] if lines else ""}'}]
    return [{'case': f'kd-rank_logits_{pair}.py --amp', 'result': 'trains one epoch'}]


# Each part, and the most seconds that it may take; together they stay within ten minutes.
PARTS: dict[str, tuple[Callable[[str], list[Row]], int]] = {
    'environment': (environment, 30),
    'checks': (checks, 60),
    'definition': (definition, 60),
    'sines': (sines, 30),
    'losses': (losses, 45),
    'repeated': (repeated, 45),
    'speed': (speed, 75),
    'step_share': (step_share, 60),
    'compiled': (compiled, 60),
    'ranks': (ranks, 45),
    'openmmlab': (openmmlab, 60),
    'racecheck': (racecheck, 60),
    'suite': (suite, 120),
}
ALONE = {'races': races}
COLUMNS = (
    *('part', 'case', 'result', 'rows', 'classes', 'steepness', 'subject', 'seconds'),
    *('extra_bytes', 'share_percent', 'value_error', 'grad_error'),
)


def run_part(name: str, rehearse: bool, left: float) -> list[Row]:
    """Runs a part in a process of its own, within its seconds."""
    _, seconds = PARTS[name]
    environment = dict(os.environ)
    if rehearse:
        environment['TRITON_INTERPRET'] = '1'
    command = [sys.executable, __file__, '--part', name, *(['--rehearse'] if rehearse else [])]
    seconds = max(1, min(seconds * (10 if rehearse else 1), left))
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return [{'case': '', 'result': f'FAILS: not done after {seconds:.0f} s'}]
    lines = [line for line in done.stdout.splitlines() if line.startswith('[{')]
    if done.returncode or not lines:
        last = [line for line in done.stderr.splitlines() if line.strip()]
        why = last[-1].strip()[:300] if last else f'exit status {done.returncode}'
        return [{'case': '', 'result': f'FAILS: {why}'}]
    return json.loads(lines[-1])


def svg(rows: list[Row]) -> str:
    """Bars of the speed, in milliseconds on a logarithmic axis: no library is needed for them."""
    bars = [row for row in rows if row['part'] == 'speed' and 'seconds' in row]
    if not bars:
        return ''
    low = min(float(row['seconds']) for row in bars) / 2
    high = max(float(row['seconds']) for row in bars)
    colors = {
        **{'triton': '#2a7', 'triton in a CUDA graph': '#5c9', 'eager': '#28c', 'auto': '#63a'},
        **{'reference': '#999', 'KL': '#c62'},
    }

    lines, line = [], 18
    for index, row in enumerate(bars):
        wide = 420 * math.log(float(row['seconds']) / low) / math.log(high / low)
        y, color = line * index, colors[str(row['subject'])]
        lines.append(
            f'<text x="290" y="{y + 13}" text-anchor="end">{row["case"]}</text>'
            f'<rect x="300" y="{y + 2}" width="{wide:.0f}" height="14" fill="{color}"/>'
            f'<text x="{306 + wide:.0f}" y="{y + 13}">{float(row["seconds"]) * 1e3:.3g} ms</text>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="820" height="{line * len(bars) + 4}" '
        'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
        + '\n'.join(lines)
        + '</svg>\n'
    )


def write_report(rows: list[Row], folder: Path, rehearse: bool, minutes: float) -> None:
    """``report.md``, ``results.csv`` and ``speed.svg``."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / 'results.csv', 'w', newline='') as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    picture = svg(rows)
    if picture:
        (folder / 'speed.svg').write_text(picture)
    failed = sum('FAILS' in str(row['result']) for row in rows)
    lines = ['# The CUDA kernels on this machine', '']
    if rehearse:
        lines += [
            '**A rehearsal on a CPU, in an interpreter: no figure here is about a GPU.**',
            '',
        ]
    verdict = f'{failed} of them failed.' if failed else 'None failed.'
    lines += [f'`make gpu`, {len(rows)} results in {minutes:.1f} minutes. {verdict}', '']
    for name, (part, _) in PARTS.items():
        lines += [f'## {name}', '', str(part.__doc__), '', '| | |', '|---|---|']
        lines += [f'| {row["case"]} | {row["result"]} |' for row in rows if row['part'] == name]
        lines += ['', '![speed](speed.svg)', ''] if name == 'speed' and picture else ['']
    (folder / 'report.md').write_text('\n'.join(lines))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--output', type=Path, default=Path('work_dirs/gpu'))
    parser.add_argument('--rehearse', action='store_true', help='on a CPU, in the interpreter')
    parser.add_argument('--part', choices=[*PARTS, *ALONE], help='this one alone, as JSON')
    options = parser.parse_args()
    device = 'cpu' if options.rehearse else 'cuda'
    if not options.rehearse and not torch.cuda.is_available():
        print(
            f'gpu_report.py: error: torch {torch.__version__} sees no CUDA device; the command is '
            'for a machine with an NVIDIA GPU, and --rehearse shows on a CPU what it does',
            file=sys.stderr,
        )
        return 2
    if options.part:
        run = ALONE[options.part] if options.part in ALONE else PARTS[options.part][0]
        try:
            print(json.dumps(run(device) or [{}]))
        except SkippedError as reason:
            print(json.dumps([{'case': '', 'result': f'skipped: {reason}'}]))
        return 0
    started = time.monotonic()
    limit = 600 if not options.rehearse else 3600
    rows: list[Row] = []
    for name in PARTS:
        print(f'{name} ...', flush=True)
        for row in run_part(name, options.rehearse, limit - (time.monotonic() - started)):
            rows.append({'part': name, **row})
            print(f'    {row["case"]}: {row["result"]}', flush=True)
        # After each part: what is known is kept, whatever the next one does.
        write_report(rows, options.output, options.rehearse, (time.monotonic() - started) / 60)
    print(f'Report: {options.output / "report.md"}')
    return int(any('FAILS' in str(row['result']) for row in rows))


if __name__ == '__main__':
    sys.exit(main())

"""Images per second of a training step: mmrazor's SingleTeacherDistill against LogitDistill.

    python tools/benchmarks/distill_step.py --csv distill_step.csv

A step is data preprocessing, teacher, student, losses, backward and SGD on one batch of random
images; loading and augmenting images is not in it. Beside the steps, the teacher's forward pass
alone, in the ways that could make it faster and equal up to rounding. The arms take turns, step by
step, so that what else the machine does hits all of them; reported are the median and the 20th and
80th percentile of a step, and the median over the rounds of each arm's speed relative to the first
arm in the same round. On a CPU the clock is the process's CPU time on one thread, on CUDA it is
wall time.
"""

from __future__ import annotations

import argparse
import copy
import csv
import gc
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from mmkendall import __version__, compat

compat.apply()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from mmcv.cnn import fuse_conv_bn  # noqa: E402
from mmengine.dataset import pseudo_collate  # noqa: E402
from mmengine.device import get_device  # noqa: E402
from mmengine.optim import OptimWrapper  # noqa: E402
from mmengine.registry import MODELS, DefaultScope  # noqa: E402
from mmpretrain.structures import DataSample  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import Progress  # noqa: E402
from rich.table import Table  # noqa: E402

from mmkendall.datasets import FixedViews  # noqa: E402
from mmkendall.engine.distill_config import load_config  # noqa: E402
from mmkendall.models.algorithms.teacher_logits import TeacherLogitsWriter  # noqa: E402

# The config of each case; ImageNet's pair is made below.
CASES = {
    'digits': 'digits/kd_logits_resnet18-w16_resnet18-w4_1xb64_digits.py',
    'resnet56-resnet20': 'cifar100/kd/kd_logits_resnet56_resnet20_1xb64_cifar100.py',
    'resnet34-resnet18': 'digits/kd_logits_resnet18-w16_resnet18-w4_1xb64_digits.py',
}
INPUTS = {
    'digits': ((1, 8, 8), 10),
    'resnet56-resnet20': ((3, 32, 32), 100),
    'resnet34-resnet18': ((3, 224, 224), 1000),
}
ARMS = {
    'SingleTeacherDistill': dict(type='mmrazor.SingleTeacherDistill'),
    'LogitDistill': dict(type='mmkendall.LogitDistill'),
    'LogitDistill, bfloat16 teacher': dict(
        type='mmkendall.LogitDistill', teacher_dtype='bfloat16'
    ),
    'LogitDistill, channels_last': dict(type='mmkendall.LogitDistill', channels_last=True),
    'LogitDistill, cached': dict(type='mmkendall.LogitDistill'),
    'LogitDistill, cached, channels_last': dict(type='mmkendall.LogitDistill', channels_last=True),
}
WARM_UP_ROUNDS = 2


def model_config(case: str) -> dict:
    """The model of a case, but for what an arm adds."""
    model = load_config(f'mmkendall::{CASES[case]}').model
    model.teacher_ckpt = None
    if case != 'resnet34-resnet18':
        return model
    model.teacher, model.architecture = (
        dict(
            type='mmpretrain.ImageClassifier',
            backbone=dict(type='mmpretrain.ResNet', depth=depth),
            neck=dict(type='mmpretrain.GlobalAveragePooling'),
            head=dict(type='mmpretrain.LinearClsHead', num_classes=1000, in_channels=512),
        )
        for depth in (34, 18)
    )
    model.data_preprocessor = dict(
        type='mmpretrain.ClsDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    )
    return model


def make_batch(case: str, size: int) -> dict:
    """Random pixels as a dataloader hands them out, each with its row and checksum."""
    shape, classes = INPUTS[case]
    generator = torch.Generator().manual_seed(0)
    samples = [
        {
            'inputs': torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator),
            'data_samples': DataSample().set_gt_label(index % classes),
        }
        for index in range(size)
    ]
    dataset = FixedViews(samples)
    return pseudo_collate([dataset[index] for index in range(size)])


def cache_logits(model, batch: dict, folder: str) -> None:
    """Writes the teacher's logits of the one batch."""
    data = model.data_preprocessor(batch, True)
    logits = model.compute_teacher_logits(data['inputs'], data['data_samples'])
    rows, _, classes = logits.shape
    made_of = dict(
        rows=rows, samples=rows, views=1, seed=0, classes=classes, dtype='float16',
        teachers=model.teacher_fingerprint(),
    )  # fmt: skip
    writer = TeacherLogitsWriter(folder, made_of)
    writer.append(logits, [sample.view_crc for sample in batch['data_samples']])
    writer.flush()


def make_step(arm: str, case: str, batch: dict, folder: str, device: str) -> Callable[[], None]:
    """A function that trains an arm on the batch once."""
    torch.manual_seed(0)
    config = model_config(case)
    config.update(ARMS[arm])
    model = MODELS.build(config).to(device)
    if 'cached' in arm:
        cache = str(Path(folder) / f'{case}-{arm}')
        cache_logits(model, batch, cache)
        model.teacher_logits = cache
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = OptimWrapper(torch.optim.SGD(parameters, lr=1e-3, momentum=0.9))
    return lambda: model.train_step(batch, optimizer)


def measure(step: Callable[[], None], device: str) -> float:
    """Seconds of one step."""
    if device == 'cpu':
        began = time.process_time()
        step()
        return time.process_time() - began
    torch.cuda.synchronize()
    began = time.perf_counter()
    step()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def teacher_passes(case: str, size: int, device: str, compiled: bool) -> dict[str, Callable]:
    """The teacher's forward pass by the name of how it is run."""
    torch.manual_seed(0)
    teacher = MODELS.build(model_config(case).teacher).to(device).eval().requires_grad_(False)
    folded = fuse_conv_bn(copy.deepcopy(teacher))
    images = torch.randn(size, *INPUTS[case][0], device=device)
    last = dict(memory_format=torch.channels_last)
    arms = {
        'teacher alone': (teacher, images),
        'teacher alone, channels_last': (
            copy.deepcopy(teacher).to(**last),
            images.contiguous(**last),
        ),
        'teacher alone, BatchNorm folded': (folded, images),
        'teacher alone, BatchNorm folded, channels_last': (
            copy.deepcopy(folded).to(**last),
            images.contiguous(**last),
        ),
    }
    if compiled:
        # Folds, fuses convolution with activation and sum, and orders the weights as oneDNN wants.
        torch._inductor.config.freezing = True
        arms['teacher alone, torch.compile, frozen'] = (
            torch.compile(copy.deepcopy(teacher)),
            images.contiguous(**last),
        )

    def run(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return model(images)

    expected = run(*arms['teacher alone'])
    for model, images in arms.values():
        torch.testing.assert_close(run(model, images), expected, rtol=1e-3, atol=1e-4)
    return {arm: partial(run, *arguments) for arm, arguments in arms.items()}


def run_turns(
    case: str, steps: dict[str, Callable], size: int, rounds: int, device: str
) -> list[dict]:
    """One row an arm; the first is what the others are compared with."""
    seconds: dict[str, list[float]] = {arm: [] for arm in steps}
    with Progress(transient=True) as progress:
        bar = progress.add_task(case, total=(rounds + WARM_UP_ROUNDS) * len(steps))
        gc.collect()
        gc.disable()
        try:
            for number in range(rounds + WARM_UP_ROUNDS):
                for arm, step in steps.items():
                    taken = measure(step, device)
                    if number >= WARM_UP_ROUNDS:
                        seconds[arm].append(taken)
                    progress.advance(bar)
        finally:
            gc.enable()
    baseline = seconds[next(iter(steps))]
    rows = []
    for arm, of_arm in seconds.items():
        p20, p50, p80 = np.percentile(of_arm, [20, 50, 80])
        ratios = [base / taken for base, taken in zip(baseline, of_arm, strict=True)]
        rows.append(
            dict(
                case=case, arm=arm, batch=size, rounds=rounds, ms_p20=1e3 * p20, ms_p50=1e3 * p50,
                ms_p80=1e3 * p80, images_per_s=size / p50, ratio=statistics.median(ratios),
                device=device, threads=torch.get_num_threads(), machine=platform.machine(),
                torch=torch.__version__, mmkendall=__version__,
            )
        )  # fmt: skip
    return rows


def run_case(case: str, size: int, rounds: int, device: str, compiled: bool) -> list[dict]:
    """The rows of a case."""
    batch = make_batch(case, size)
    with tempfile.TemporaryDirectory() as folder:
        steps = {arm: make_step(arm, case, batch, folder, device) for arm in ARMS}
        rows = run_turns(case, steps, size, rounds, device)
    del steps
    return rows + run_turns(
        case, teacher_passes(case, size, device, compiled), size, rounds, device
    )


def print_table(rows: list[dict], console: Console) -> None:
    """The rows, for people."""
    table = Table(caption='The last column is the speed-up over the first arm of its kind.')
    for heading in ('case', 'arm'):
        table.add_column(heading)
    for heading in ('batch', 'ms p20', 'p50', 'p80', 'images/s', 'speed-up'):
        table.add_column(heading, justify='right', no_wrap=True)
    for row in rows:
        times = [f'{row[f"ms_{p}"]:.1f}' for p in ('p20', 'p50', 'p80')]
        cells = [row['case'], row['arm'], str(row['batch']), *times]
        table.add_row(*cells, f'{row["images_per_s"]:.1f}', f'{row["ratio"]:.2f}x')
    console.print(table)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--cases', nargs='+', choices=CASES, default=list(CASES))
    parser.add_argument('--rounds', type=int, default=15, help='5 or more. Default: 15')
    parser.add_argument('--batch', type=int, default=64, help='of small images. Default: 64')
    parser.add_argument('--imagenet-batch', type=int, default=8)
    parser.add_argument(
        '--compile', action='store_true', help='compile the teacher too; needs a C++ compiler'
    )
    parser.add_argument('--csv', type=Path, help='write the rows to this file')
    args = parser.parse_args()
    for name, least in (('rounds', 5), ('batch', 2), ('imagenet_batch', 2)):
        if getattr(args, name) < least:
            option = name.replace('_', '-')
            parser.error(f'--{option} must be {least} or more, got {getattr(args, name)}')
    return args


def main() -> int:
    args = parse_args()
    torch.set_num_threads(1)
    device = get_device()
    rows = []
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        for case in args.cases:
            size = args.imagenet_batch if case == 'resnet34-resnet18' else args.batch
            rows += run_case(case, size, args.rounds, device, args.compile)
    print_table(rows, Console(width=130))
    if args.csv is not None:
        with open(args.csv, 'w', newline='') as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return 0


if __name__ == '__main__':
    sys.exit(main())

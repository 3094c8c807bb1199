"""Compare with what mmrazor reports: its figures, its weights tested here, and your checkpoint.

    python tools/analysis_tools/against_mmrazor.py
    python tools/analysis_tools/against_mmrazor.py CONFIG
    python tools/analysis_tools/against_mmrazor.py CONFIG CHECKPOINT

Without a config it prints mmrazor's figures on ImageNet beside those of this project. With one, of
mmrazor (``mmrazor::distill/mmcls/...``) or ours that adds to it (``configs/imagenet/...``), it
tests the weights that mmrazor offers for it, and then CHECKPOINT of CONFIG, on the same images.
That needs ImageNet and, to fetch the weights, the network.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from mmkendall import compat

compat.apply()

from mmkendall.engine.distill_config import ConfigError  # noqa: E402
from mmkendall.studies.zoo import TOP1, read_results, read_zoo  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[2]
REPORTED = 'Top 1 Accuracy (reported)'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config', nargs='?', help='of mmrazor, or ours that adds to it')
    parser.add_argument('checkpoint', nargs='?', help='of a training of that config')
    parser.add_argument(
        '--weights', help="a file with mmrazor's weights, in place of the one at their URL"
    )
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], help='settings of both tests, as in tools/test.py'
    )
    return parser.parse_args()


def beside_mmrazor(models: list[dict]) -> list[dict]:
    """The configs that add to one of mmrazor's."""
    return [model for model in models if 'Base Config' in model.get('Metadata', {})]


def mean_here(config: str, results: dict[str, dict]) -> str:
    """The mean over the result files of a config."""
    values = [
        result['metrics'][TOP1.key]
        for result in results.values()
        if result['config'] == config and not result['changed']
    ]
    return f'{sum(values) / len(values):.2f}' if values else 'not run'


def show(models: list[dict], results: dict[str, dict]) -> None:
    """Prints the table, and the command that tests each of mmrazor's weights."""
    headings = ('teacher', 'student', 'reported', 'here', 'with ranking, here', "mmrazor's config")
    rows = [headings]
    for model in models:
        about = model['Metadata']
        rows.append((
            f'{about["Teacher"]} {about[f"Teacher {REPORTED}"]:.2f}',
            f'{about["Student"]} {about[f"Student {REPORTED}"]:.2f}',
            f'{about[f"Base {REPORTED}"]}',
            mean_here(about['Base Config'], results),
            mean_here(model['Config'], results),
            about['Base Config'].rpartition('/')[2].removesuffix('.py'),
        ))  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print('Top-1 on ImageNet; the figures of teacher and student, alone, are reported too.\n')
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print('  '.join(cells).rstrip())
    first = models[0]['Config']
    print(f"\nTo test mmrazor's weights and then your checkpoint on your images:\n"
          f'python tools/benchmark.py --against mmrazor {first} CHECKPOINT')  # fmt: skip
    print("\nTo test mmrazor's weights alone, fetched from their URL:")
    for model in models:
        about = model['Metadata']
        print(shlex.join(
            ['python', 'tools/test.py', about['Base Config'], about['Base Weights']]
        ))  # fmt: skip


def top1_of(config: str, checkpoint: str, options: list[str]) -> float:
    """The top-1 that tools/test.py measures.

    Raises:
        ConfigError: it ended with an error, which it has printed.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / 'metrics.json'
        command = [
            sys.executable, str(REPOSITORY / 'tools' / 'test.py'), config, checkpoint,
            '--work-dir', folder, '--out', str(out),
        ]  # fmt: skip
        done = subprocess.run([*command, *options], check=False)
        if done.returncode:
            raise ConfigError(
                f'tools/test.py of {checkpoint} ended with status {done.returncode}, for the '
                "reason above. Where mmrazor's weights cannot be fetched, --weights takes a file"
            )
        return float(json.loads(out.read_text())[TOP1.key])


def compare(args: argparse.Namespace, models: list[dict]) -> None:
    """Tests mmrazor's weights and the checkpoint, and prints both beside the reported figure."""
    config = args.config
    model = next(
        (each for each in models if config in (each['Config'], each['Metadata']['Base Config'])),
        None,
    )
    if model is None:
        raise ConfigError(
            f'config {config!r} is neither one of mmrazor with a reported figure nor ours that '
            f'adds to it; there are {", ".join(each["Config"] for each in models)}'
        )
    about = model['Metadata']
    weights = args.weights or about['Base Weights']
    options = ['--cfg-options', *args.cfg_options] if args.cfg_options else []
    for path in (args.weights, args.checkpoint):
        if path is not None and '://' not in path and not Path(path).is_file():
            raise ConfigError(f'checkpoint {path!r} does not exist')
    theirs = top1_of(about['Base Config'], weights, options)
    lines = [
        f"mmrazor's weights  {theirs:.2f}, reported {about[f'Base {REPORTED}']}  {weights}",
    ]
    if args.checkpoint is not None:
        path = config if '::' in config else str(REPOSITORY / config)
        yours = top1_of(path, args.checkpoint, options)
        lines.append(f'your checkpoint    {yours:.2f}, {yours - theirs:+.2f}  {args.checkpoint}')
    print('\n' + '\n'.join(lines))


def main() -> int:
    args = parse_args()
    try:
        models = read_zoo(REPOSITORY)[1]
        if args.config is None:
            show(beside_mmrazor(models), read_results(REPOSITORY, models))
        else:
            compare(args, beside_mmrazor(models))
    except ConfigError as error:
        print(f'against_mmrazor.py: error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())

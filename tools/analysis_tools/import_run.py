"""Take the figures of a finished training into the repository, from its work directory.

    python tools/analysis_tools/import_run.py work_dirs/resnet20_1xb64_cifar100
    python tools/analysis_tools/import_run.py WORK_DIR --config configs/cifar100/kd/NAME.py

What it finds goes into a file of configs/*/results: the metrics of the last epoch, never those of
the best one, with the seed, the GPUs, the seconds and the versions. A training that is not of a
config of ours, setting for setting, or has not ended, is refused. zoo_tables.py puts the figure
into the table.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from mmkendall import compat

compat.apply()

from mmkendall.engine.distill_config import ConfigError  # noqa: E402
from mmkendall.engine.errors import REFUSALS  # noqa: E402
from mmkendall.studies.finished_run import read_run  # noqa: E402
from mmkendall.studies.zoo import (  # noqa: E402
    experiments,
    find_config,
    make_result,
    measure_of,
    read_zoo,
    result_name,
    sentence,
)
from mmkendall.whole_files import write_atomically  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[2]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('work_dir', type=Path, help='of a training that has ended')
    parser.add_argument(
        '--config',
        help='of the zoo that it is of: a path in the repository, or mmrazor::path. Defaults to '
        'the one that the run is called after, or else the one that is like it',
    )
    parser.add_argument(
        '--changed',
        action='store_true',
        help='store a run with other settings, too, with their names; no table counts it',
    )
    parser.add_argument(
        '--out', type=Path, help='folder of the file. Defaults to configs/*/results'
    )
    return parser.parse_args()


def import_run(args: argparse.Namespace) -> tuple[Path, dict]:
    """Writes the result file; returns its path and content.

    Raises:
        ConfigError: the run is not what the tables may show.
    """
    known = experiments(read_zoo(REPOSITORY)[1])
    if args.config is not None and args.config not in known:
        raise ConfigError(
            f'--config {args.config} is in no metafile; it is a path in the repository such as '
            f'{next(iter(known))}'
        )
    run = read_run(args.work_dir)
    configs = [args.config] if args.config else list(known)
    if not args.config and run.name not in {Path(config).stem for config in configs}:
        print(f'No config is called {run.name}: all are compared, which takes a minute')
    config, differ = find_config(run, configs, REPOSITORY)
    if differ and not args.changed:
        raise ConfigError(
            f'{args.work_dir} is no training of {config}: {sentence(differ)}. --config compares '
            'it with another one, and --changed stores it as a changed run'
        )
    result = make_result(run, config, differ, REPOSITORY)
    folder = args.out or REPOSITORY / 'configs' / known[config] / 'results'
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / result_name(result)
    # A line an entry: the curve of a training is one.
    lines = ',\n'.join(f' {json.dumps(key)}: {json.dumps(each)}' for key, each in result.items())
    write_atomically(str(path), f'{{\n{lines}\n}}\n'.encode())
    return path, result


def main() -> int:
    args = parse_args()
    try:
        path, result = import_run(args)
    except (*REFUSALS, OSError) as error:
        print(f'import_run.py: error: {error}', file=sys.stderr)
        return 2
    unit, (end, value) = result['unit'], result['curve'][-1]
    best_at, best = max(result['curve'], key=lambda point: point[1])
    folder = experiments(read_zoo(REPOSITORY)[1])[result['config']]
    better = f'; the best was {best:g} of {unit} {best_at}, which is not reported'
    print(
        f'{measure_of(folder).key} {value:g} of {unit} {end}, the last'
        f'{better if best > value else ""}'
    )
    if result['changed']:
        print(f'A changed run of {result["config"]}: {sentence(result["changed"])}')
    print(f'Wrote {path}')
    return 0


if __name__ == '__main__':
    sys.exit(main())

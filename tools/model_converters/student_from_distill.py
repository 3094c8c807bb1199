"""Take the student out of a distillation checkpoint: the older name of export_student.py.

    python tools/model_converters/student_from_distill.py epoch_12.pth student.pth

Other than there, the weights are those as trained, and --ema takes the averages of an EMAHook.
"""

from __future__ import annotations

import argparse
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from mmkendall import compat

compat.apply()

from mmkendall.compat.safe_loading import UnreadableCheckpointError, load  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('checkpoint', help='checkpoint of a distillation run')
    parser.add_argument('out', help='checkpoint to write')
    parser.add_argument('--ema', action='store_true', help='take the averaged weights')
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    # The folder is no package.
    spec = spec_from_file_location('export_student', Path(__file__).with_name('export_student.py'))
    tool = module_from_spec(spec)
    spec.loader.exec_module(tool)
    args.raw = False
    try:
        tool.check_options(args)
        averaged = 'ema_state_dict' in load(args.checkpoint, 'cpu')
        if args.ema and not averaged:
            raise tool.ConfigError('--ema: the checkpoint has no ema_state_dict')
        args.raw = averaged and not args.ema
    except (tool.ConfigError, UnreadableCheckpointError, OSError) as error:
        print(f'student_from_distill.py: error: {error}', file=sys.stderr)
        return 2
    if args.raw:
        print('The checkpoint holds averages too, which the validation measured: --ema takes them')
    return tool.run('student_from_distill.py', args)


if __name__ == '__main__':
    sys.exit(main())

"""Take the student out of a distillation checkpoint, so that its plain config loads it.

    python tools/model_converters/student_from_distill.py epoch_12.pth student.pth
    python tools/test.py STUDENT_CONFIG student.pth

Works on checkpoints of mmkendall.LogitDistill and of mmrazor's algorithms, which hold the student
under ``architecture.``. The teacher, the distiller and the optimizer's state are left out. With
--ema the averaged weights of an EMAHook are taken.
"""

from __future__ import annotations

import argparse
import os.path as osp
import sys

from mmkendall import compat

compat.apply()

from mmengine.runner import CheckpointLoader, save_checkpoint  # noqa: E402

PREFIX = 'architecture.'


class CheckpointError(ValueError):
    """A checkpoint without a student in it."""


def student_state(checkpoint: dict, ema: bool) -> dict:
    """The student's state dict, with the names of the plain student.

    Args:
        checkpoint: what was loaded from a file.
        ema: take the averaged weights.

    Raises:
        CheckpointError: no averaged weights, or no student under ``architecture.``.
    """
    if ema:
        if 'ema_state_dict' not in checkpoint:
            raise CheckpointError('--ema: the checkpoint has no ema_state_dict')
        averaged = checkpoint['ema_state_dict']
        state = {name.removeprefix('module.'): value for name, value in averaged.items()}
    else:
        state = checkpoint.get('state_dict', checkpoint)
    student = {
        name.removeprefix(PREFIX): value
        for name, value in state.items()
        if name.startswith(PREFIX)
    }
    if not student:
        top = sorted({name.partition('.')[0] for name in state})
        raise CheckpointError(
            f'no weights under {PREFIX!r}, so this is no distillation checkpoint; it has '
            f'{", ".join(top)}'
        )
    return student


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('checkpoint', help='checkpoint of a distillation run')
    parser.add_argument('out', help='checkpoint to write')
    parser.add_argument('--ema', action='store_true', help='take the averaged weights')
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    try:
        if not osp.isfile(args.checkpoint):
            raise CheckpointError(f'checkpoint {args.checkpoint!r} does not exist')
        if osp.exists(args.out) and osp.samefile(args.checkpoint, args.out):
            raise CheckpointError(f'out must be another file than checkpoint, got {args.out!r}')
        checkpoint = CheckpointLoader.load_checkpoint(args.checkpoint, map_location='cpu')
        student = student_state(checkpoint, args.ema)
    except CheckpointError as error:
        print(f'student_from_distill.py: error: {error}', file=sys.stderr)
        return 2
    result = {'state_dict': student}
    # The classes' names, which mmpretrain's inferencers read.
    meta = checkpoint.get('meta', {})
    result['meta'] = {key: meta[key] for key in ('dataset_meta', 'epoch', 'iter') if key in meta}
    save_checkpoint(result, args.out)
    sizes = [osp.getsize(path) / 1e6 for path in (args.checkpoint, args.out)]
    print(f'{args.out}: {len(student)} tensors, {sizes[0]:.1f} MB -> {sizes[1]:.1f} MB')
    return 0


if __name__ == '__main__':
    sys.exit(main())

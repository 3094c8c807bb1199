"""Take the student out of a distillation checkpoint, as plain weights or for ONNX Runtime.

    python tools/model_converters/export_student.py epoch_12.pth student.pth
    python tools/test.py STUDENT_CONFIG student.pth
    python tools/model_converters/export_student.py epoch_12.pth student.pth \\
        --onnx student.onnx --config STUDENT_CONFIG --input-shape 3 224 224

Works on checkpoints of mmkendall.LogitDistill and of mmrazor's algorithms, which hold the student
under ``architecture.``. The teacher, the distiller and the optimizer's state are left out. Where
an EMAHook took part, the averaged weights are taken, which are what the validation measured.

The ONNX model takes images (N, C, H, W), normalised as the config's data_preprocessor does it, for
any N, and gives the logits. It is written once ONNX Runtime computes what torch does.
"""

from __future__ import annotations

import argparse
import inspect
import os.path as osp
import sys
import warnings

from mmkendall import compat

compat.apply()

import torch  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from mmkendall.compat.safe_loading import UnreadableCheckpointError, load  # noqa: E402
from mmkendall.engine.distill_config import ConfigError, load_config  # noqa: E402
from mmkendall.engine.hooks.student_checkpoint import (  # noqa: E402
    NoStudentError,
    student_checkpoint,
)
from mmkendall.whole_files import save_whole, whole_file  # noqa: E402

# Between ONNX Runtime and torch, for logits of the size that networks have.
TOLERANCE = 1e-4


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('checkpoint', help='checkpoint of a distillation run')
    parser.add_argument('out', help='checkpoint to write')
    parser.add_argument(
        '--raw',
        action='store_true',
        help='of a run with an EMAHook, take the weights as trained, not the averages',
    )
    parser.add_argument('--onnx', help='also write this .onnx file')
    parser.add_argument('--config', help='for --onnx: of the student, or of the distillation')
    parser.add_argument(
        '--input-shape',
        type=int,
        nargs=3,
        metavar=('C', 'H', 'W'),
        help='for --onnx: channels, height and width of an image',
    )
    return parser.parse_args()


def check_options(args: argparse.Namespace) -> None:
    """Raises ConfigError before any work starts."""
    if not osp.isfile(args.checkpoint):
        raise ConfigError(f'checkpoint {args.checkpoint!r} does not exist')
    for name in ('out', 'onnx'):
        path = getattr(args, name, None)
        if path is None:
            continue
        if osp.exists(path) and osp.samefile(args.checkpoint, path):
            raise ConfigError(f'{name} must be another file than checkpoint, got {path!r}')
        if not osp.isdir(osp.dirname(path) or '.'):
            raise ConfigError(f'{name}: there is no folder {osp.dirname(path)!r}')
    if not getattr(args, 'onnx', None):
        return
    if args.config is None or args.input_shape is None:
        raise ConfigError('--onnx needs --config STUDENT_CONFIG and --input-shape C H W')
    if min(args.input_shape) < 1:
        raise ConfigError(f'--input-shape must be three numbers above 0, got {args.input_shape}')
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f'--onnx needs the packages onnx and onnxruntime: pip install {error.name}'
        ) from error


class Logits(nn.Module):
    """The path of a classifier from normalised images to logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        logits = self.model(inputs, mode='tensor')
        if not isinstance(logits, Tensor):
            raise ConfigError(
                f'--onnx exports classifiers, whose output is a tensor of logits; this '
                f'{type(self.model).__name__} gives a {type(logits).__name__}'
            )
        return logits


def build_student(cfg: Config, state: dict[str, Tensor]) -> nn.Module:
    """The plain student of a config, or of a distillation's config, with its weights.

    Raises:
        ConfigError: the weights are of another network.
    """
    from mmkendall.models.algorithms.teachers import build_model

    model = cfg.model.get('architecture', cfg.model)
    if 'cfg_path' not in model and cfg.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        student = build_model(model, 'model')
    try:
        student.load_state_dict(state)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        raise ConfigError(
            f'--config builds another network than that of the checkpoint: {" ".join(lines)[:300]}'
        ) from error
    return student.eval()


def export_onnx(student: nn.Module, shape: list[int], path: str) -> float:
    """Writes the ONNX file if ONNX Runtime agrees with torch, and returns how far they differ.

    Raises:
        ConfigError: they differ by more than ``TOLERANCE``.
    """
    import onnxruntime

    network = Logits(student)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(3, *shape, generator=generator)
    with torch.no_grad():
        expected = network(images)
    # The exporter of torch.export needs onnxscript as well, this one does not.
    options = {'dynamo': False} if _knows_dynamo() else {}
    with whole_file(path) as part:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # Of its own deprecation, and of constants it traces.
            torch.onnx.export(
                network, (images[:2],), part, input_names=['images'], output_names=['logits'],
                dynamic_axes={'images': {0: 'batch'}, 'logits': {0: 'batch'}}, **options,
            )  # fmt: skip
        session = onnxruntime.InferenceSession(part, providers=['CPUExecutionProvider'])
        # One image and three, where two were traced: the batch is free.
        found = [
            torch.from_numpy(session.run(None, {'images': batch.numpy()})[0])
            for batch in (images[:1], images)
        ]
        pairs = list(zip(found, (expected[:1], expected), strict=True))
        difference = max(float((ours - theirs).abs().max()) for ours, theirs in pairs)
        if not all(torch.allclose(*pair, rtol=TOLERANCE, atol=TOLERANCE) for pair in pairs):
            raise ConfigError(
                f'{path!r} was not written: ONNX Runtime and torch differ by {difference:.2g}'
            )
    return difference


def _knows_dynamo() -> bool:
    return 'dynamo' in inspect.signature(torch.onnx.export).parameters


def export(args: argparse.Namespace) -> None:
    """Does what the options ask for.

    Raises:
        ConfigError, NoStudentError, UnreadableCheckpointError, OSError: it can't be done.
    """
    check_options(args)
    checkpoint = load(args.checkpoint, 'cpu')
    averaged = isinstance(checkpoint, dict) and 'ema_state_dict' in checkpoint
    result = student_checkpoint(checkpoint, raw=args.raw)
    if getattr(args, 'onnx', None):
        student = build_student(load_config(args.config), result['state_dict'])
        difference = export_onnx(student, args.input_shape, args.onnx)
        print(f'{args.onnx}: ONNX Runtime and torch differ by {difference:.1g}')
    save_whole(result, args.out)
    sizes = [osp.getsize(path) / 1e6 for path in (args.checkpoint, args.out)]
    kind = ''
    if averaged:
        kind = ', as trained, without averaging' if args.raw else ', the averages of an EMAHook'
    print(
        f'{args.out}: {len(result["state_dict"])} tensors{kind}, '
        f'{sizes[0]:.1f} MB -> {sizes[1]:.1f} MB'
    )


def run(program: str, args: argparse.Namespace) -> int:
    """Exports, or says in one sentence why not; returns the exit status."""
    try:
        export(args)
    except (ConfigError, NoStudentError, UnreadableCheckpointError, OSError) as error:
        print(f'{program}: error: {error}', file=sys.stderr)
        return 2
    return 0


def main() -> int:
    return run('export_student.py', parse_args())


if __name__ == '__main__':
    sys.exit(main())

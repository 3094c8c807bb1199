"""Convert a CIFAR-100 checkpoint of mdistiller into one that our ImageClassifier configs load.

python tools/model_converters/mdistiller_to_mmkendall.py resnet56 \
    cifar_teachers/resnet56_vanilla/ckpt_epoch_240.pth resnet56_cifar100.pth

The result fits the networks in configs/_base_/models/cifar100. mdistiller trains on RGB images
normalised by mean (0.5071, 0.4867, 0.4408) and deviation (0.2675, 0.2565, 0.2761) of the unit
range: feed the network the same.
"""

from __future__ import annotations

import argparse
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.config import Config
from torch import Tensor

from mmkendall.compat.safe_loading import UnreadableCheckpointError, load
from mmkendall.registry import MODELS
from mmkendall.whole_files import save_whole

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / '_base_' / 'models' / 'cifar100'


class Layout(NamedTuple):
    """How a family of mdistiller names its weights."""

    classifier: str
    # pattern and replacement, applied in turn to the keys of the backbone
    renames: tuple[tuple[str, str | Callable[[re.Match], str]], ...] = ()


def next_layer(match: re.Match) -> str:
    """mdistiller counts some of its stages from 0; we count from 1."""
    return f'layer{int(match[1]) + 1}'


# The two branches of a ShuffleNetV2 unit that halves the map, and the one of a unit that doesn't.
DOWN_UNIT = {
    'conv1': 'branch1.0',
    'bn1': 'branch1.1',
    'conv2': 'branch1.2',
    'bn2': 'branch1.3',
    'conv3': 'branch2.0',
    'bn3': 'branch2.1',
    'conv4': 'branch2.3',
    'bn4': 'branch2.4',
    'conv5': 'branch2.5',
    'bn5': 'branch2.6',
}
UNIT = {
    'conv1': 'branch2.0',
    'bn1': 'branch2.1',
    'conv2': 'branch2.3',
    'bn2': 'branch2.4',
    'conv3': 'branch2.5',
    'bn3': 'branch2.6',
}


def shuffle_unit(match: re.Match) -> str:
    layer, index, module = match.groups()
    branches = DOWN_UNIT if index == '0' else UNIT
    # A module that we don't know stays, to be reported as unexpected.
    return f'{layer}.{index}.{branches.get(module, module)}.'


RESNET = Layout('fc')
STEM_RESNET = Layout('linear', ((r'\.shortcut\.', '.downsample.'),))
WRN = Layout(
    'fc',
    (
        (r'^block(\d)\.layer', r'layer\1'),
        (r'\.convShortcut\.', '.shortcut.'),
        (r'^bn1', 'layer3.bn'),
    ),
)
VGG = Layout('classifier', ((r'^block(\d)', next_layer),))
MOBILENET_V2 = Layout('classifier.0', ((r'^blocks\.(\d)', next_layer), (r'^conv2', 'layer8')))
SHUFFLENET_V1 = Layout('linear')
SHUFFLENET_V2 = Layout(
    'linear',
    (
        (r'^(layer\d)\.(\d)\.(\w+)\.', shuffle_unit),
        (r'^conv2', 'layer4.0'),
        (r'^bn2', 'layer4.1'),
    ),
)

# mdistiller's name of an architecture: the name of our config, and its layout
ARCHITECTURES = {
    **{f'resnet{depth}': (f'resnet{depth}', RESNET) for depth in (8, 14, 20, 32, 44, 56, 110)},
    'resnet8x4': ('resnet8x4', RESNET),
    'resnet32x4': ('resnet32x4', RESNET),
    'ResNet18': ('resnet18', STEM_RESNET),
    'ResNet50': ('resnet50', STEM_RESNET),
    'wrn_16_1': ('wrn_16_1', WRN),
    'wrn_16_2': ('wrn_16_2', WRN),
    'wrn_40_1': ('wrn_40_1', WRN),
    'wrn_40_2': ('wrn_40_2', WRN),
    **{f'vgg{depth}': (f'vgg{depth}', VGG) for depth in (8, 11, 13, 16, 19)},
    'MobileNetV2': ('mobilenet_v2', MOBILENET_V2),
    'ShuffleV1': ('shufflenet_v1', SHUFFLENET_V1),
    'ShuffleV2': ('shufflenet_v2', SHUFFLENET_V2),
}


def convert(architecture: str, weights: Mapping[str, Tensor]) -> OrderedDict[str, Tensor]:
    """Rename the weights of mdistiller's ``architecture`` to those of an ImageClassifier.

    Args:
        architecture: mdistiller's name, a key of ``ARCHITECTURES``.
        weights: the state dict of mdistiller's network, for any number of classes.

    Returns:
        A state dict with the keys ``backbone.*`` and ``head.fc.*``. Batch counters that an old
        checkpoint lacks are added as 0.

    Raises:
        ValueError: the architecture is unknown, or keys or shapes are not those that it has.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(
            f'architecture must be one of {", ".join(ARCHITECTURES)}, got {architecture}'
        )
    config_name, layout = ARCHITECTURES[architecture]
    converted = OrderedDict((rename(key, layout), weights[key]) for key in weights)
    expected = expected_shapes(config_name, converted.get('head.fc.weight'))
    for key in expected:
        if key.endswith('.num_batches_tracked'):
            converted.setdefault(key, torch.tensor(0))

    problems = [f'missing: {key}' for key in expected if key not in converted]
    problems += [f'unexpected: {key}' for key in weights if rename(key, layout) not in expected]
    problems += [
        f'shape of {key}: {tuple(converted[key].shape)}, expected {tuple(shape)}'
        for key, shape in expected.items()
        if key in converted and converted[key].shape != shape
    ]
    if problems:
        shown = problems[:10]
        if len(problems) > len(shown):
            shown.append(f'and {len(problems) - len(shown)} more')
        raise ValueError(f'the weights are not those of {architecture}:\n  ' + '\n  '.join(shown))
    return converted


def rename(key: str, layout: Layout) -> str:
    """Our key for mdistiller's."""
    if key.startswith(f'{layout.classifier}.'):
        return 'head.fc' + key[len(layout.classifier) :]
    for pattern, replacement in layout.renames:
        key = re.sub(pattern, replacement, key)
    return f'backbone.{key}'


def expected_shapes(config_name: str, classifier: Tensor | None) -> dict[str, torch.Size]:
    """Keys and shapes of our network, with as many classes as ``classifier`` has rows."""
    network = Config.fromfile(CONFIGS / f'{config_name}.py')[config_name]
    backbone = MODELS.build(network.backbone)
    num_classes = network.head.num_classes if classifier is None else len(classifier)
    shapes = {f'backbone.{key}': value.shape for key, value in backbone.state_dict().items()}
    shapes['head.fc.weight'] = torch.Size([num_classes, network.head.in_channels])
    shapes['head.fc.bias'] = torch.Size([num_classes])
    return shapes


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """The state dict of the network in a checkpoint of mdistiller.

    It may be one of a bare network, as its downloads and ``student_best`` are, or one of the whole
    distiller under DataParallel, as ``best``, ``latest`` and ``epoch_240`` are: then the student
    is taken, which for a teacher that mdistiller trained is the teacher.

    Raises:
        ValueError: the file can't be read as a checkpoint, or holds no such state dict.
    """
    try:
        checkpoint = load(path, 'cpu')
    except (OSError, UnreadableCheckpointError) as error:
        raise ValueError(
            f'cannot read {path} as a checkpoint of plain weights: {error}'
        ) from error
    weights = checkpoint.get('model') if isinstance(checkpoint, Mapping) else None
    if not isinstance(weights, Mapping) or not all(map(torch.is_tensor, weights.values())):
        raise ValueError(f"{path} holds no state dict under the key 'model'")
    for prefix in ('module.student.', 'student.', 'module.'):
        of_network = {
            key.removeprefix(prefix): value
            for key, value in weights.items()
            if key.startswith(prefix)
        }
        if of_network:
            return of_network
    return weights


def main(argv: list[str] | None = None) -> None:
    description, _, details = __doc__.partition('\n\n')
    parser = argparse.ArgumentParser(
        description=description,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('architecture', help=f"mdistiller's name: {', '.join(ARCHITECTURES)}")
    parser.add_argument('source', type=Path, help="mdistiller's checkpoint")
    parser.add_argument('target', type=Path, help='the file to write')
    parser.add_argument('--force', action='store_true', help='overwrite the target')
    args = parser.parse_args(argv)

    try:
        if args.target.exists() and not args.force:
            raise ValueError(f'{args.target} exists; pass --force to overwrite it')
        state_dict = convert(args.architecture, read_weights(args.source))
    except ValueError as error:
        parser.exit(1, f'error: {error}\n')
    args.target.parent.mkdir(parents=True, exist_ok=True)
    meta = dict(architecture=args.architecture, source='mdistiller')
    save_whole(dict(state_dict=state_dict, meta=meta), str(args.target))
    print(f'wrote {args.target}: {len(state_dict)} tensors of {args.architecture}')


if __name__ == '__main__':
    main()

"""Write the CIFAR-100 and ImageNet configs, one small file an experiment, from the tables below.

    python tools/make_configs.py
    python tools/make_configs.py --check

Each experiment starts by one name, so each is a file; what differs between them is in the tables.
The reported figures go into the metafiles, and from there into the READMEs by
tools/analysis_tools/zoo_tables.py.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]

# The paper's best steepness on CIFAR-100, and gamma = alpha: second-hand, see docs/sources.md.
STEEPNESS = 100.0
RANK_WEIGHT = 1.0

LSKD_README = 'https://github.com/sunshangquan/logit-standardization-KD'
MDISTILLER_README = 'https://github.com/megvii-research/mdistiller'
ALONE_README = 'https://github.com/HobbitLong/RepDistiller'
DIST_README = 'https://github.com/hunto/DIST_KD'


class Method(NamedTuple):
    """A base method: its name for people and its paper."""

    title: str
    paper: str
    url: str


METHODS = {
    'kd': Method(
        'KD', 'Distilling the Knowledge in a Neural Network', 'https://arxiv.org/abs/1503.02531'
    ),
    'ctkd': Method(
        'CTKD',
        'Curriculum Temperature for Knowledge Distillation',
        'https://arxiv.org/abs/2211.16231',
    ),
    'dkd': Method('DKD', 'Decoupled Knowledge Distillation', 'https://arxiv.org/abs/2203.08679'),
    'mlkd': Method(
        'MLKD',
        'Multi-Level Logit Distillation',
        'https://openaccess.thecvf.com/content/CVPR2023/html/'
        'Jin_Multi-Level_Logit_Distillation_CVPR_2023_paper.html',
    ),
    'lskd': Method(
        'LSKD',
        'Logit Standardization in Knowledge Distillation',
        'https://arxiv.org/abs/2403.01427',
    ),
    'dist': Method(
        'DIST',
        'Knowledge Distillation from A Stronger Teacher',
        'https://arxiv.org/abs/2205.10536',
    ),
}


class Network(NamedTuple):
    """A network: its file in _base_/models/cifar100, its name for people, its reported top-1."""

    module: str
    title: str
    top1: float | None = None


NETWORKS = {
    'resnet20': Network('resnet20', 'ResNet-20', 69.06),
    'resnet32': Network('resnet32', 'ResNet-32', 71.14),
    'resnet56': Network('resnet56', 'ResNet-56', 72.34),
    'resnet110': Network('resnet110', 'ResNet-110', 74.31),
    'resnet8x4': Network('resnet8x4', 'ResNet-8x4', 72.50),
    'resnet32x4': Network('resnet32x4', 'ResNet-32x4', 79.42),
    'resnet50': Network('resnet50', 'ResNet-50', 79.34),
    'wrn-16-2': Network('wrn_16_2', 'WRN-16-2', 73.26),
    'wrn-40-1': Network('wrn_40_1', 'WRN-40-1', 71.98),
    'wrn-40-2': Network('wrn_40_2', 'WRN-40-2', 75.61),
    'vgg8': Network('vgg8', 'VGG-8', 70.36),
    'vgg13': Network('vgg13', 'VGG-13', 74.64),
    'mobilenet-v2': Network('mobilenet_v2', 'MobileNetV2', 64.60),
    'shufflenet-v2': Network('shufflenet_v2', 'ShuffleNetV2', 71.82),
    'deit-tiny': Network('deit_tiny', 'DeiT-Ti'),
    't2t-vit-7': Network('t2t_vit_7', 'T2T-ViT-7'),
    'pit-tiny': Network('pit_tiny', 'PiT-Ti'),
    'pvt-tiny': Network('pvt_tiny', 'PVT-Ti'),
}
SMALL_RATE = ('mobilenet-v2', 'shufflenet-v2')
VITS = ('deit-tiny', 't2t-vit-7', 'pit-tiny', 'pvt-tiny')


class Pair(NamedTuple):
    """A pair of the CIFAR-100 tables: what its recipes have of their own, and reported top-1."""

    beta: float  # of DKD
    lskd: tuple[int, float]  # LSKD's temperature and weight
    mlkd: str  # MLKD's schedule
    top1: tuple[float, ...]  # of the methods in REPORTED


REPORTED = ('kd', 'lskd', 'ctkd', 'dkd', 'mlkd')

# LSKD's values are in the names of the logs that its README links, but for ResNet-110 to
# ResNet-20, which has the most frequent ones here. MLKD's schedules are in its authors' configs,
# and for the pairs that they lack in LSKD's.
# DKD's beta is in mdistiller's configs, but for ResNet-110 to ResNet-20 (here that of the other
# ResNets) and WRN-40-2 to ResNet-8x4 and to MobileNetV2 (here mdistiller's default, which it has
# for WRN-40-2 to ShuffleNetV1).
LONG = 'cifar100_480e'
PAIRS = {
    ('resnet32x4', 'resnet8x4'): Pair(8, (2, 9), LONG, (73.33, 76.62, 73.39, 76.32, 77.08)),
    ('vgg13', 'vgg8'): Pair(6, (3, 9), LONG, (72.98, 74.36, 73.52, 74.68, 75.18)),
    ('wrn-40-2', 'wrn-40-1'): Pair(6, (2, 9), LONG, (73.54, 74.37, 73.93, 74.81, 75.35)),
    ('wrn-40-2', 'wrn-16-2'): Pair(6, (2, 9), LONG, (74.92, 76.11, 75.45, 76.24, 76.63)),
    ('resnet56', 'resnet20'): Pair(2, (2, 9), LONG, (70.66, 71.43, 71.19, 71.97, 72.19)),
    ('resnet110', 'resnet32'): Pair(2, (2, 9), LONG, (73.08, 74.17, 73.52, 74.11, 74.11)),
    ('resnet110', 'resnet20'): Pair(2, (2, 9), LONG, (70.67, 71.48, 70.99, 71.06, 71.89)),
    ('resnet32x4', 'shufflenet-v2'): Pair(
        8, (2, 9), f'{LONG}_lr0.01', (74.45, 75.56, 75.37, 77.07, 78.44)
    ),
    ('resnet32x4', 'wrn-16-2'): Pair(8, (3, 9), LONG, (74.90, 75.26, 74.57, 75.70, 76.52)),
    ('resnet32x4', 'wrn-40-2'): Pair(8, (3, 9), LONG, (77.70, 77.92, 77.66, 78.46, 79.26)),
    ('wrn-40-2', 'resnet8x4'): Pair(8, (2, 9), LONG, (73.97, 77.11, 74.61, 75.56, 77.33)),
    ('wrn-40-2', 'mobilenet-v2'): Pair(
        8, (3, 9), f'{LONG}_lr0.005', (68.36, 69.23, 68.34, 69.28, 70.78)
    ),
    ('vgg13', 'mobilenet-v2'): Pair(
        6, (3, 9), f'{LONG}_lr0.0025', (67.37, 68.61, 68.50, 69.71, 70.57)
    ),
    ('resnet50', 'mobilenet-v2'): Pair(
        8, (3, 1), f'{LONG}_lr0.0025', (67.35, 69.02, 68.67, 70.35, 71.04)
    ),
}
# DIST's README has five of the pairs: means, over several runs.
DIST_TOP1 = {
    ('wrn-40-2', 'wrn-40-1'): 74.43,
    ('resnet56', 'resnet20'): 71.75,
    ('resnet32x4', 'resnet8x4'): 76.31,
    ('resnet50', 'mobilenet-v2'): 68.66,
    ('resnet32x4', 'shufflenet-v2'): 77.35,
}
VIT_TEACHER = 'resnet56'


class ImageNetPair(NamedTuple):
    """A pair of the ImageNet tables, its teacher's weights and reported top-1."""

    teacher: str
    student: str
    checkpoint: str
    titles: tuple[str, str]
    beta: float  # of DKD
    mlkd: str  # MLKD's schedule
    top1: dict[str, float]  # of KD and DKD by mdistiller, of DIST by its authors


ZOO = 'https://download.openmmlab.com/mmclassification/v0/resnet'
IMAGENET_PAIRS = {
    ('resnet34', 'resnet18'): ImageNetPair(
        'resnet34',
        'resnet18',
        f'{ZOO}/resnet34_8xb32_in1k_20210831-f257d4e6.pth',
        ('ResNet-34', 'ResNet-18'),
        0.5,
        'imagenet_100e_bs512_lr0.1',
        {'kd': 71.03, 'dkd': 71.70, 'dist': 72.07},
    ),
    ('resnet50', 'mobilenet-v1'): ImageNetPair(
        'resnet50',
        'mobilenet_v1',
        f'{ZOO}/resnet50_8xb32_in1k_20210831-ea4938fc.pth',
        ('ResNet-50', 'MobileNetV1'),
        2.0,
        'imagenet_100e_bs512',
        {'kd': 70.50, 'dkd': 72.05, 'dist': 73.24},
    ),
}


def bases(*names: str) -> str:
    """The ``_base_`` of a config two folders below configs/."""
    lines = ''.join(f"    '../../_base_/{name}.py',\n" for name in names)
    return f"_base_ = [\n{lines}    '../../_base_/default_runtime.py',\n]\n"


def distillation(own: str, *names: str) -> str:
    """A config that distils.

    Args:
        own: a line of Python that sets what the pair has of its own in the distiller; may be
            empty.
        names: the files of ``_base_``.
    """
    return bases(*names) + (
        '\nmodel = dict(\n'
        '    architecture=_base_.student,\n'
        '    teacher=_base_.teacher,\n'
        '    teacher_ckpt=_base_.teacher_ckpt,\n'
        '    data_preprocessor=_base_.data_preprocessor,\n'
        f'{own})\n'
    )


def with_ranking(method: str, plain: str) -> str:
    """The config that adds the ranking loss to another of the same folder."""
    return (
        f'# {METHODS[method].title} and the ranking loss, with the same weight (gamma = alpha). '
        'A steepness\n# of 100 is the best on CIFAR-100, second-hand: see docs/sources.md.\n'
        f"_base_ = ['./{plain}.py']\n"
        '\nmodel = dict(\n'
        '    distiller=dict(\n'
        "        type='mmkendall.RankAugmentedDistiller',\n"
        f'        rank_weight={RANK_WEIGHT},\n'
        f'        rank_loss=dict(steepness={STEEPNESS}),\n'
        '    )\n)\n'
    )


def loss_options(name: str, **options: float) -> str:
    """The line that sets options of one loss."""
    text = ', '.join(f'{key}={value}' for key, value in options.items())
    return f'    distiller=dict(distill_losses=dict({name}=dict({text}))),\n'


def pair_file(folder: str, teacher: str, student: str, checkpoint: str) -> str:
    """A file of ``_base_/pairs``."""
    return (
        '_base_ = [\n'
        f"    '../models/{folder}/{teacher}.py',\n"
        f"    '../models/{folder}/{student}.py',\n"
        ']\n\n'
        f'teacher = _base_.{teacher}\n'
        f"teacher_ckpt = '{checkpoint}'\n"
        f'student = _base_.{student}\n'
    )


def alone(network: str) -> str:
    """The name of the config that trains a network without a teacher."""
    return f'{network}_1xb64_cifar100'


def small_rate(student: str) -> str:
    return 'cifar100_240e_lr0.01' if student in SMALL_RATE else 'cifar100_240e'


def reported(dataset: str, top1: float | None, source: str) -> dict:
    """The entry ``Results`` of a metafile, for a figure of others."""
    if top1 is None:
        return {}
    metrics = {'Top 1 Accuracy (reported)': top1}
    task = 'Image Classification'
    return {'Results': [{'Task': task, 'Dataset': dataset, 'Metrics': metrics, 'Source': source}]}


def cifar100_files() -> dict[str, str]:
    """All files of CIFAR-100 by their path in the repository."""
    files = {}
    models: dict[str, list[dict]] = {name: [] for name in ('alone', *METHODS)}
    for name, network in NETWORKS.items():
        if name in VITS:
            continue
        files[f'configs/cifar100/alone/{alone(name)}.py'] = (
            bases(
                f'models/cifar100/{network.module}',
                'datasets/cifar100_bs64',
                f'schedules/{small_rate(name)}',
            )
            + f'\nmodel = _base_.{network.module}\n'
        )
        models['alone'].append(
            {
                'Name': alone(name),
                'In Collection': 'CIFAR-100, without a teacher',
                'Config': f'configs/cifar100/alone/{alone(name)}.py',
                'Metadata': {'Network': network.title},
                **reported('CIFAR-100', network.top1, ALONE_README),
            }
        )
    vits = [(VIT_TEACHER, vit) for vit in VITS]
    for teacher, student in [*PAIRS, *vits]:
        files[f'configs/_base_/pairs/{teacher}_{student}_cifar100.py'] = pair_file(
            'cifar100',
            NETWORKS[teacher].module,
            NETWORKS[student].module,
            f'work_dirs/{alone(teacher)}/epoch_240.pth',
        )
    for method in METHODS:
        for teacher, student in PAIRS:
            text = cifar100_leaf(method, teacher, student)
            stem = f'logits_{teacher}_{student}_1xb64_cifar100'
            add(files, models[method], method, stem, text, teacher, student)
        data = 'cifar100_two_views_bs128' if method == 'mlkd' else 'cifar100_bs128'
        for teacher, student in vits:
            text = distillation(
                '',
                f'pairs/{teacher}_{student}_cifar100',
                f'methods/{method}_vit',
                f'datasets/{data}',
                'schedules/cifar100_vit_300e',
            )
            stem = f'logits_{teacher}_{student}_1xb128_cifar100'
            add(files, models[method], method, stem, text, teacher, student)
    files['configs/cifar100/alone/metafile.yml'] = metafile(
        'CIFAR-100, without a teacher', 'CIFAR-100', None, models['alone']
    )
    for method in METHODS:
        files[f'configs/cifar100/{method}/metafile.yml'] = metafile(
            f'{METHODS[method].title}, CIFAR-100', 'CIFAR-100', METHODS[method], models[method]
        )
    return files


def cifar100_leaf(method: str, teacher: str, student: str) -> str:
    """The config of a CNN pair."""
    pair = PAIRS[teacher, student]
    data, schedule, own = 'cifar100_bs64', small_rate(student), ''
    if method == 'dkd':
        own = loss_options('loss_dkd', beta=float(pair.beta))
    elif method == 'lskd':
        tau, weight = pair.lskd
        own = loss_options('loss_kl', tau=tau, loss_weight=float(weight))
    elif method == 'mlkd':
        data, schedule = 'cifar100_two_views_bs64', pair.mlkd
    return distillation(
        own,
        f'pairs/{teacher}_{student}_cifar100',
        f'methods/{method}',
        f'datasets/{data}',
        f'schedules/{schedule}',
    )


def add(
    files: dict[str, str],
    models: list[dict],
    method: str,
    stem: str,
    text: str,
    teacher: str,
    student: str,
) -> None:
    """Adds the config of a pair of CIFAR-100 without and with ranking, and their entries."""
    top1: dict[str, float | None] = {}
    if (teacher, student) in PAIRS:
        top1 = dict(zip(REPORTED, PAIRS[teacher, student].top1, strict=True))
        top1['dist'] = DIST_TOP1.get((teacher, student))
    source = DIST_README if method == 'dist' else LSKD_README
    plain, ranked = f'{method}_{stem}', f'{method}-rank_{stem}'
    files[f'configs/cifar100/{method}/{plain}.py'] = text
    files[f'configs/cifar100/{method}/{ranked}.py'] = with_ranking(method, plain)
    for name, figure in ((plain, top1.get(method)), (ranked, None)):
        models.append(
            {
                'Name': name,
                'In Collection': f'{METHODS[method].title}, CIFAR-100',
                'Config': f'configs/cifar100/{method}/{name}.py',
                'Metadata': {
                    'Teacher': NETWORKS[teacher].title,
                    'Student': NETWORKS[student].title,
                    'Teacher Config': f'configs/cifar100/alone/{alone(teacher)}.py',
                },
                **reported('CIFAR-100', figure, source),
            }
        )


def imagenet_files() -> dict[str, str]:
    """All files of ImageNet by their path in the repository, but those on mmrazor's configs."""
    files = {}
    for (teacher, student), pair in IMAGENET_PAIRS.items():
        files[f'configs/_base_/pairs/{teacher}_{student}_in1k.py'] = pair_file(
            'imagenet', pair.teacher, pair.student, pair.checkpoint
        )
    for method, about in METHODS.items():
        models = []
        source = DIST_README if method == 'dist' else MDISTILLER_README
        for (teacher, student), pair in IMAGENET_PAIRS.items():
            batch, data, schedule, own = 64, 'imagenet_bs64', 'imagenet_100e_bs512', ''
            if method == 'ctkd':
                batch, data, schedule = 32, 'imagenet_bs32', 'imagenet_120e_bs256'
            elif method == 'mlkd':
                data, schedule = 'imagenet_two_views_bs64', pair.mlkd
            elif method == 'dkd':
                own = loss_options('loss_dkd', beta=pair.beta)
            elif method == 'dist':
                schedule = 'imagenet_100e_bs512_nesterov'
            plain = f'{method}_logits_{teacher}_{student}_8xb{batch}_in1k'
            ranked = plain.replace('_logits', '-rank_logits')
            files[f'configs/imagenet/{method}/{plain}.py'] = distillation(
                own,
                f'pairs/{teacher}_{student}_in1k',
                f'methods/{method}_in1k',
                f'datasets/{data}',
                f'schedules/{schedule}',
            )
            files[f'configs/imagenet/{method}/{ranked}.py'] = with_ranking(method, plain)
            for name, figure in ((plain, pair.top1.get(method)), (ranked, None)):
                models.append(
                    {
                        'Name': name,
                        'In Collection': f'{about.title}, ImageNet',
                        'Config': f'configs/imagenet/{method}/{name}.py',
                        'Metadata': dict(zip(('Teacher', 'Student'), pair.titles, strict=True)),
                        **reported('ImageNet-1k', figure, source),
                    }
                )
        files[f'configs/imagenet/{method}/metafile.yml'] = metafile(
            f'{about.title}, ImageNet', 'ImageNet-1k', about, models
        )
    return files


def metafile(name: str, data: str, method: Method | None, models: list[dict]) -> str:
    """The text of a metafile.yml."""
    folder = 'cifar100' if data == 'CIFAR-100' else 'imagenet'
    collection = {'Name': name, 'Metadata': {'Training Data': [data]}}
    if method is not None:
        collection['Paper'] = {'Title': method.paper, 'URL': method.url}
    collection['README'] = f'configs/{folder}/README.md'
    note = (
        '# Written by tools/make_configs.py. Figures marked as reported are those of the source.\n'
    )
    content = {'Collections': [collection], 'Models': models}
    return note + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=200)


def all_files() -> dict[str, str]:
    """Every file that this command writes: its text by its path in the repository."""
    return {**cifar100_files(), **imagenet_files()}


def stale_files(files: dict[str, str], root: Path = REPOSITORY) -> list[str]:
    """The paths that are missing or differ, and those that the tables no longer name."""
    stale = [
        path
        for path, text in files.items()
        if not (root / path).is_file() or (root / path).read_text() != text
    ]
    patterns = ('cifar100/*/*.py', 'imagenet/*/*.py', '_base_/pairs/*_cifar100.py')
    found = [path for pattern in patterns for path in (root / 'configs').glob(pattern)]
    names = [path.relative_to(root).as_posix() for path in found]
    return sorted([*stale, *(name for name in names if name not in files)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--check', action='store_true', help='write nothing; fail if any differs')
    args = parser.parse_args()
    files = all_files()
    stale = stale_files(files)
    if args.check:
        for path in stale:
            print(f'{path} is not what tools/make_configs.py writes', file=sys.stderr)
        return int(bool(stale))
    for path in stale:
        if path in files:
            (REPOSITORY / path).parent.mkdir(parents=True, exist_ok=True)
            (REPOSITORY / path).write_text(files[path])
        else:
            (REPOSITORY / path).unlink()
    print(f'{len(stale)} of {len(files)} files written or removed')
    return 0


if __name__ == '__main__':
    sys.exit(main())

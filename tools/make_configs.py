"""Write the CIFAR-100 and ImageNet configs, one small file an experiment, from the tables below.

    python tools/make_configs.py
    python tools/make_configs.py --check

Each experiment starts by one name, so each is a file; what differs between them is in the tables.
The reported figures go into the metafiles, and from there into the READMEs by
tools/analysis_tools/zoo_tables.py. Those of mmrazor are read from the metafiles that the installed
mmrazor ships.

Above each table, or beside a field or a value, stands where its values come from. What is called
second-hand was not read in its source: see docs/sources.md. The values that all pairs of a method
share are in configs/_base_/methods, with their sources.
"""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]

STEEPNESS = 100.0  # The paper's best on CIFAR-100 (second-hand).
RANK_WEIGHT = 1.0  # Times the weight of the logit loss: the paper's gamma = alpha (second-hand).

LSKD_README = 'https://github.com/sunshangquan/logit-standardization-KD'
MDISTILLER_README = 'https://github.com/megvii-research/mdistiller'
ALONE_README = 'https://github.com/HobbitLong/RepDistiller'
DIST_README = 'https://github.com/hunto/DIST_KD'
MRKD_README = 'https://github.com/ebolk/MonotonicRankDistillation'
WTTM_README = 'https://github.com/zkxufo/TTM'


class Method(NamedTuple):
    """A base method."""

    title: str  # for people
    paper: str | None  # None where none was found
    url: str  # of the paper, or of the code
    readme: str | None = None  # that reports its figures, where it is not that of most methods
    ranked: bool = True  # with the ranking loss, too; not for a loss on an order
    vits: bool = True  # for the vision transformers, too
    reported_pairs: bool = False  # for those pairs of CIFAR-100 alone whose figures are reported


METHODS = {
    'kd': Method(
        title='KD',
        paper='Distilling the Knowledge in a Neural Network',
        url='https://arxiv.org/abs/1503.02531',
    ),
    'ctkd': Method(
        title='CTKD',
        paper='Curriculum Temperature for Knowledge Distillation',
        url='https://arxiv.org/abs/2211.16231',
    ),
    'dkd': Method(
        title='DKD',
        paper='Decoupled Knowledge Distillation',
        url='https://arxiv.org/abs/2203.08679',
    ),
    'mlkd': Method(
        title='MLKD',
        paper='Multi-Level Logit Distillation',
        url='https://openaccess.thecvf.com/content/CVPR2023/html/'
        'Jin_Multi-Level_Logit_Distillation_CVPR_2023_paper.html',
    ),
    'lskd': Method(
        title='LSKD',
        paper='Logit Standardization in Knowledge Distillation',
        url='https://arxiv.org/abs/2403.01427',
    ),
    'dist': Method(
        title='DIST',
        paper='Knowledge Distillation from A Stronger Teacher',
        url='https://arxiv.org/abs/2205.10536',
        readme=DIST_README,
    ),
    'mrkd': Method(
        title='MRKD',
        paper=None,
        url=MRKD_README,
        readme=MRKD_README,
        ranked=False,
        vits=False,
        reported_pairs=True,
    ),
    'wttm': Method(
        title='WTTM',
        paper='Knowledge Distillation Based on Transformed Teacher Matching',
        url='https://arxiv.org/abs/2402.11148',
        readme=WTTM_README,
        vits=False,
        reported_pairs=True,
    ),
    'pld': Method(
        title='PLD',
        paper='PLD: A Choice-Theoretic List-Wise Knowledge Distillation',
        url='https://arxiv.org/abs/2506.12542',
        ranked=False,
        vits=False,
    ),
}


class Network(NamedTuple):
    """A network of the CIFAR-100 tables."""

    title: str  # for people
    module: str  # its file in configs/_base_/models/cifar100
    top1: float | None = None  # trained alone, as the README of RepDistiller reports it
    # Alone, and as a student of the methods that name no schedule of their own: the field's
    # 240 epochs, with a learning rate of 0.01 for a MobileNetV2 or a ShuffleNet.
    schedule: str = 'cifar100_240e'


NETWORKS = {
    'resnet20': Network(title='ResNet-20', module='resnet20', top1=69.06),
    'resnet32': Network(title='ResNet-32', module='resnet32', top1=71.14),
    'resnet56': Network(title='ResNet-56', module='resnet56', top1=72.34),
    'resnet110': Network(title='ResNet-110', module='resnet110', top1=74.31),
    'resnet8x4': Network(title='ResNet-8x4', module='resnet8x4', top1=72.50),
    'resnet32x4': Network(title='ResNet-32x4', module='resnet32x4', top1=79.42),
    'resnet50': Network(title='ResNet-50', module='resnet50', top1=79.34),
    'wrn-16-2': Network(title='WRN-16-2', module='wrn_16_2', top1=73.26),
    'wrn-40-1': Network(title='WRN-40-1', module='wrn_40_1', top1=71.98),
    'wrn-40-2': Network(title='WRN-40-2', module='wrn_40_2', top1=75.61),
    'vgg8': Network(title='VGG-8', module='vgg8', top1=70.36),
    'vgg13': Network(title='VGG-13', module='vgg13', top1=74.64),
    'mobilenet-v2': Network(
        title='MobileNetV2', module='mobilenet_v2', top1=64.60, schedule='cifar100_240e_lr0.01'
    ),
    'shufflenet-v2': Network(
        title='ShuffleNetV2', module='shufflenet_v2', top1=71.82, schedule='cifar100_240e_lr0.01'
    ),
    'deit-tiny': Network(title='DeiT-Ti', module='deit_tiny'),
    't2t-vit-7': Network(title='T2T-ViT-7', module='t2t_vit_7'),
    'pit-tiny': Network(title='PiT-Ti', module='pit_tiny'),
    'pvt-tiny': Network(title='PVT-Ti', module='pvt_tiny'),
}
VITS = ('deit-tiny', 't2t-vit-7', 'pit-tiny', 'pvt-tiny')
VIT_TEACHER = 'resnet56'  # The paper's (second-hand), as the transformers are.


class Pair(NamedTuple):
    """A pair of the CIFAR-100 tables: what its recipes have of their own, and reported top-1."""

    # From mdistiller's configs, but where a comment says otherwise.
    dkd_beta: float
    # From the names of the logs that LSKD's README links, but where a comment says otherwise.
    lskd_temperature: int
    lskd_weight: float
    # From the configs of MLKD's authors, and for the pairs that they lack from LSKD's.
    mlkd_schedule: str
    # By method. From LSKD's README, but those of DIST, MRKD and WTTM from that of their authors,
    # who have some of the pairs. DIST's and WTTM's are means over several runs.
    top1: dict[str, float]
    # From MRKD's configs; None for the student's own.
    mrkd_schedule: str | None = None


# The pairs are those of the paper's tables (second-hand).
PAIRS = {
    ('resnet32x4', 'resnet8x4'): Pair(
        dkd_beta=8,
        lskd_temperature=2,
        lskd_weight=9,
        mlkd_schedule='cifar100_480e',
        top1=dict(
            kd=73.33,
            lskd=76.62,
            ctkd=73.39,
            dkd=76.32,
            mlkd=77.08,
            dist=76.31,
            mrkd=77.46,
            wttm=76.06,
        ),
    ),
    ('vgg13', 'vgg8'): Pair(
        dkd_beta=6,
        lskd_temperature=3,
        lskd_weight=9,
        mlkd_schedule='cifar100_480e',
        top1=dict(kd=72.98, lskd=74.36, ctkd=73.52, dkd=74.68, mlkd=75.18, mrkd=74.51, wttm=74.44),
        mrkd_schedule='cifar100_240e_lr0.01',
    ),
    ('wrn-40-2', 'wrn-40-1'): Pair(
        dkd_beta=6,
        lskd_temperature=2,
        lskd_weight=9,
        mlkd_schedule='cifar100_480e',
        top1=dict(
            kd=73.54,
            lskd=74.37,
            ctkd=73.93,
            dkd=74.81,
            mlkd=75.35,
            dist=74.43,
            mrkd=74.96,
            wttm=74.58,
        ),
    ),
    ('wrn-40-2', 'wrn-16-2'): Pair(
        dkd_beta=6,
        lskd_temperature=2,
        lskd_weight=9,
        mlkd_schedule='cifar100_480e',
        top1=dict(kd=74.92, lskd=76.11, ctkd=75.45, dkd=76.24, mlkd=76.63, mrkd=76.32, wttm=76.37),
    ),
    ('resnet56', 'resnet20'): Pair(
        dkd_beta=2,
        lskd_temperature=2,
        lskd_weight=9,
        mlkd_schedule='cifar100_480e',
        top1=dict(
            kd=70.66,
            lskd=71.43,
            ctkd=71.19,
            dkd=71.97,
            mlkd=72.19,
            dist=71.75,
            mrkd=71.80,
            wttm=71.92,
        ),
        mrkd_schedule='cifar100_240e_lr0.01',
    ),
    ('resnet110', 'resnet32'): Pair(
        dkd_beta=2,
        lskd_temperature=2,
        lskd_weight=9,
        mlkd_schedule='cifar100_480e',
        top1=dict(kd=73.08, lskd=74.17, ctkd=73.52, dkd=74.11, mlkd=74.11, mrkd=73.70, wttm=74.13),
        mrkd_schedule='cifar100_240e_lr0.01',
    ),
    ('resnet110', 'resnet20'): Pair(
        dkd_beta=2,  # Not in mdistiller: that of the other ResNets.
        lskd_temperature=2,  # No log: the most frequent values here.
        lskd_weight=9,
        mlkd_schedule='cifar100_480e',
        top1=dict(kd=70.67, lskd=71.48, ctkd=70.99, dkd=71.06, mlkd=71.89, wttm=71.67),
    ),
    ('resnet32x4', 'shufflenet-v2'): Pair(
        dkd_beta=8,
        lskd_temperature=2,
        lskd_weight=9,
        mlkd_schedule='cifar100_480e_lr0.01',
        top1=dict(
            kd=74.45,
            lskd=75.56,
            ctkd=75.37,
            dkd=77.07,
            mlkd=78.44,
            dist=77.35,
            mrkd=78.13,
            wttm=76.55,
        ),
    ),
    ('resnet32x4', 'wrn-16-2'): Pair(
        dkd_beta=8,
        lskd_temperature=3,
        lskd_weight=9,
        mlkd_schedule='cifar100_480e',
        top1=dict(kd=74.90, lskd=75.26, ctkd=74.57, dkd=75.70, mlkd=76.52),
    ),
    ('resnet32x4', 'wrn-40-2'): Pair(
        dkd_beta=8,
        lskd_temperature=3,
        lskd_weight=9,
        mlkd_schedule='cifar100_480e',
        top1=dict(kd=77.70, lskd=77.92, ctkd=77.66, dkd=78.46, mlkd=79.26),
    ),
    ('wrn-40-2', 'resnet8x4'): Pair(
        dkd_beta=8,  # Not in mdistiller: its default, as for WRN-40-2 to ShuffleNetV1.
        lskd_temperature=2,
        lskd_weight=9,
        mlkd_schedule='cifar100_480e',
        top1=dict(kd=73.97, lskd=77.11, ctkd=74.61, dkd=75.56, mlkd=77.33),
    ),
    ('wrn-40-2', 'mobilenet-v2'): Pair(
        dkd_beta=8,  # Not in mdistiller: its default, as for WRN-40-2 to ShuffleNetV1.
        lskd_temperature=3,
        lskd_weight=9,
        mlkd_schedule='cifar100_480e_lr0.005',  # LSKD's.
        top1=dict(kd=68.36, lskd=69.23, ctkd=68.34, dkd=69.28, mlkd=70.78),
    ),
    ('vgg13', 'mobilenet-v2'): Pair(
        dkd_beta=6,
        lskd_temperature=3,
        lskd_weight=9,
        mlkd_schedule='cifar100_480e_lr0.0025',
        top1=dict(kd=67.37, lskd=68.61, ctkd=68.50, dkd=69.71, mlkd=70.57, mrkd=70.24, wttm=69.16),
    ),
    ('resnet50', 'mobilenet-v2'): Pair(
        dkd_beta=8,
        lskd_temperature=3,
        lskd_weight=1,
        mlkd_schedule='cifar100_480e_lr0.0025',
        top1=dict(
            kd=67.35,
            lskd=69.02,
            ctkd=68.67,
            dkd=70.35,
            mlkd=71.04,
            dist=68.66,
            mrkd=70.54,
            wttm=69.59,
        ),
    ),
}


class ImageNetNetwork(NamedTuple):
    """A network of the ImageNet tables."""

    title: str  # for people
    module: str  # its file in configs/_base_/models/imagenet
    checkpoint: str | None = None  # of a teacher: mmpretrain's


class ImageNetPair(NamedTuple):
    """A pair of the ImageNet tables: what its recipes have of their own, and reported top-1."""

    dkd_beta: float  # from mdistiller's configs
    mlkd_schedule: str  # MLKD's; from which file was not noted
    # KD and DKD from mdistiller's README, DIST and MRKD from those of their authors. WTTM has no
    # config here: its weight grows with the number of classes, and that for ImageNet is not known.
    top1: dict[str, float]


ZOO = 'https://download.openmmlab.com/mmclassification/v0/resnet'
IMAGENET_NETWORKS = {
    'resnet18': ImageNetNetwork(title='ResNet-18', module='resnet18'),
    'resnet34': ImageNetNetwork(
        title='ResNet-34',
        module='resnet34',
        checkpoint=f'{ZOO}/resnet34_8xb32_in1k_20210831-f257d4e6.pth',
    ),
    'resnet50': ImageNetNetwork(
        title='ResNet-50',
        module='resnet50',
        checkpoint=f'{ZOO}/resnet50_8xb32_in1k_20210831-ea4938fc.pth',
    ),
    'mobilenet-v1': ImageNetNetwork(title='MobileNetV1', module='mobilenet_v1'),
}
# The paper's pairs (second-hand).
IMAGENET_PAIRS = {
    ('resnet34', 'resnet18'): ImageNetPair(
        dkd_beta=0.5,
        mlkd_schedule='imagenet_100e_bs512_lr0.1',
        top1=dict(kd=71.03, dkd=71.70, dist=72.07, mrkd=72.31),
    ),
    ('resnet50', 'mobilenet-v1'): ImageNetPair(
        dkd_beta=2.0,
        mlkd_schedule='imagenet_100e_bs512',
        top1=dict(kd=70.50, dkd=72.05, dist=73.24, mrkd=73.15),
    ),
}


# Our configs that add the ranking loss to one of mmrazor's: by their names, teacher, student and
# mmrazor's config below distill/mmcls.
BESIDE_MMRAZOR = {
    'kd-rank_logits_resnet34_resnet18_8xb32_in1k': (
        'ResNet-34', 'ResNet-18', 'kd/kd_logits_resnet34_resnet18_8xb32_in1k.py'
    ),
    'dkd-rank_logits_resnet34_resnet18_8xb32_in1k': (
        'ResNet-34', 'ResNet-18', 'dkd/dkd_resnet34_resnet18_8xb32_in1k.py'
    ),
    'dist-rank_logits_resnet34_resnet18_8xb32_in1k': (
        'ResNet-34', 'ResNet-18', 'dist/dist_logits_resnet34_resnet18_8xb32_in1k.py'
    ),
    'wsld-rank_logits_resnet34_resnet18_8xb32_in1k': (
        'ResNet-34', 'ResNet-18', 'wsld/wsld_logits_resnet34_resnet18_8xb32_in1k.py'
    ),
    'kd-rank_logits_resnet50_mobilenet-v2_8xb32_in1k': (
        'ResNet-50', 'MobileNetV2', 'kd/kd_logits_resnet50_mobilenet-v2_8xb32_in1k.py'
    ),
    'kd-rank_logits_resnet50_shufflenet-v2-1x_16xb64_in1k': (
        'ResNet-50', 'ShuffleNetV2 1x', 'kd/kd_logits_resnet50_shufflenet-v2-1x_16xb64_in1k.py'
    ),
}  # fmt: skip
MMRAZOR = 'https://github.com/open-mmlab/mmrazor/blob'
# mmrazor 1.0.0 ships no metafile of DIST; this is what a later commit of its branch has in it.
MMRAZOR_DIST = {
    'Metadata': {
        'Student': {'Metrics': {'Top 1 Accuracy': 69.90}},
        'Teacher': {'Metrics': {'Top 1 Accuracy': 73.62}},
    },
    'Results': [{'Metrics': {'Top 1 Accuracy': 71.61}}],
    'Weights': 'https://download.openmmlab.com/mmrazor/v1/distillation/'
    'dist_logits_resnet34_resnet18_8xb32_in1k.pth',
    'Source': f'{MMRAZOR}/552cbf0f7286eba89a5da2bcbd65ec240e45d6c8/configs/distill/mmcls/dist/'
    'metafile.yml',
}


class Recipe(NamedTuple):
    """How a method is trained on ImageNet: files of configs/_base_, and images a GPU."""

    batch: int = 64
    data: str = 'imagenet_bs64'
    schedule: str | None = 'imagenet_100e_bs512'  # mdistiller's; None for the pair's own
    method: str | None = None  # None for the method's own with _in1k


IMAGENET_RECIPES = {
    'kd': Recipe(),
    # The batches and epochs of the authors' command.
    'ctkd': Recipe(batch=32, data='imagenet_bs32', schedule='imagenet_120e_bs256'),
    'dkd': Recipe(),
    'mlkd': Recipe(data='imagenet_two_views_bs64', schedule=None),
    'lskd': Recipe(),  # What its authors used there could not be found.
    'dist': Recipe(schedule='imagenet_100e_bs512_nesterov'),  # The authors' momentum.
    # The learning rate of its file for ResNet-50 to MobileNetV1. That for ResNet-34 to ResNet-18
    # has 0.001, with which a network hardly leaves its first weights: taken for a slip.
    'mrkd': Recipe(schedule='imagenet_100e_bs512_lr0.1'),
    # The authors' pairs are others, with recipes that could not be had.
    'pld': Recipe(method='pld'),
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
                f'schedules/{network.schedule}',
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
    for method, about in METHODS.items():
        for teacher, student in pairs_of(method):
            text = cifar100_leaf(method, teacher, student)
            stem = f'logits_{teacher}_{student}_1xb64_cifar100'
            add(files, models[method], method, stem, text, teacher, student)
        data = 'cifar100_two_views_bs128' if method == 'mlkd' else 'cifar100_bs128'
        for teacher, student in vits if about.vits else []:
            text = distillation(
                '',
                f'pairs/{teacher}_{student}_cifar100',
                f'methods/{method}_vit',
                f'datasets/{data}',
                'schedules/cifar100_vit_300e',  # that of tiny-transformers, as the batch is
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


def pairs_of(method: str) -> list[tuple[str, str]]:
    """The CNN pairs of CIFAR-100 that a method has a config for."""
    reported = METHODS[method].reported_pairs
    return [names for names, pair in PAIRS.items() if not reported or method in pair.top1]


def cifar100_leaf(method: str, teacher: str, student: str) -> str:
    """The config of a CNN pair."""
    pair = PAIRS[teacher, student]
    data, schedule, own = 'cifar100_bs64', NETWORKS[student].schedule, ''
    if method == 'dkd':
        own = loss_options('loss_dkd', beta=float(pair.dkd_beta))
    elif method == 'lskd':
        tau, weight = pair.lskd_temperature, float(pair.lskd_weight)
        own = loss_options('loss_kl', tau=tau, loss_weight=weight)
    elif method == 'mlkd':
        data, schedule = 'cifar100_two_views_bs64', pair.mlkd_schedule
    elif method == 'mrkd':
        schedule = pair.mrkd_schedule or schedule
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
    """Adds the config of a pair of CIFAR-100, the one with ranking if any, and their entries."""
    # There are no figures of the transformers in the tables above.
    top1 = PAIRS[teacher, student].top1 if (teacher, student) in PAIRS else {}
    source = METHODS[method].readme or LSKD_README
    plain, ranked = f'{method}_{stem}', f'{method}-rank_{stem}'
    figures = {plain: top1.get(method)}
    files[f'configs/cifar100/{method}/{plain}.py'] = text
    if METHODS[method].ranked:
        figures[ranked] = None
        files[f'configs/cifar100/{method}/{ranked}.py'] = with_ranking(method, plain)
    for name, figure in figures.items():
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
    for teacher, student in IMAGENET_PAIRS:
        networks = IMAGENET_NETWORKS[teacher], IMAGENET_NETWORKS[student]
        files[f'configs/_base_/pairs/{teacher}_{student}_in1k.py'] = pair_file(
            'imagenet', networks[0].module, networks[1].module, networks[0].checkpoint
        )
    for method, recipe in IMAGENET_RECIPES.items():
        about, models = METHODS[method], []
        source = about.readme or MDISTILLER_README
        for (teacher, student), pair in IMAGENET_PAIRS.items():
            own = loss_options('loss_dkd', beta=pair.dkd_beta) if method == 'dkd' else ''
            plain = f'{method}_logits_{teacher}_{student}_8xb{recipe.batch}_in1k'
            ranked = plain.replace('_logits', '-rank_logits')
            files[f'configs/imagenet/{method}/{plain}.py'] = distillation(
                own,
                f'pairs/{teacher}_{student}_in1k',
                f'methods/{recipe.method or method + "_in1k"}',
                f'datasets/{recipe.data}',
                f'schedules/{recipe.schedule or pair.mlkd_schedule}',
            )
            figures = {plain: pair.top1.get(method)}
            if about.ranked:
                figures[ranked] = None
                files[f'configs/imagenet/{method}/{ranked}.py'] = with_ranking(method, plain)
            for name, figure in figures.items():
                models.append(
                    {
                        'Name': name,
                        'In Collection': f'{about.title}, ImageNet',
                        'Config': f'configs/imagenet/{method}/{name}.py',
                        'Metadata': {
                            'Teacher': IMAGENET_NETWORKS[teacher].title,
                            'Student': IMAGENET_NETWORKS[student].title,
                        },
                        **reported('ImageNet-1k', figure, source),
                    }
                )
        files[f'configs/imagenet/{method}/metafile.yml'] = metafile(
            f'{about.title}, ImageNet', 'ImageNet-1k', about, models
        )
    return files


def of_mmrazor(config: str) -> dict:
    """What mmrazor reports of one of its configs, as its metafile has it, and where.

    Args:
        config: its path below ``distill/mmcls``.

    Raises:
        LookupError: mmrazor is not installed, or has no figure of the config.
    """
    if config.startswith('dist/'):
        return MMRAZOR_DIST
    package = find_spec('mmrazor')
    if package is None:
        raise LookupError('mmrazor is not installed, whose figures this reads: make install')
    path = f'configs/distill/mmcls/{config}'
    name = f'{Path(path).parent.as_posix()}/metafile.yml'
    file = Path(package.origin).parent / '.mim' / name
    for model in yaml.safe_load(file.read_text())['Models']:
        if model['Config'] == path:
            return {**model, 'Source': f'{MMRAZOR}/v{version("mmrazor")}/{name}'}
    raise LookupError(f'{file} has no figure of {path}')


def beside_mmrazor() -> str:
    """The metafile of our configs that add to one of mmrazor's."""
    models = []
    for name, (teacher, student, config) in BESIDE_MMRAZOR.items():
        base = of_mmrazor(config)
        alone = {
            key: base['Metadata'][key]['Metrics']['Top 1 Accuracy']
            for key in ('Teacher', 'Student')
        }
        models.append(
            {
                'Name': name,
                'In Collection': "Beside mmrazor's configs",
                'Config': f'configs/imagenet/{name}.py',
                'Metadata': {
                    'Teacher': teacher,
                    'Student': student,
                    'Teacher Top 1 Accuracy (reported)': alone['Teacher'],
                    'Student Top 1 Accuracy (reported)': alone['Student'],
                    'Base Config': f'mmrazor::distill/mmcls/{config}',
                    'Base Top 1 Accuracy (reported)': base['Results'][0]['Metrics'][
                        'Top 1 Accuracy'
                    ],
                    'Base Weights': base['Weights'],
                    'Base Source': base['Source'],
                },
            }
        )
    return metafile("Beside mmrazor's configs", 'ImageNet-1k', None, models)


def metafile(name: str, data: str, method: Method | None, models: list[dict]) -> str:
    """The text of a metafile.yml."""
    folder = 'cifar100' if data == 'CIFAR-100' else 'imagenet'
    collection = {'Name': name, 'Metadata': {'Training Data': [data]}}
    if method is not None and method.paper is None:
        collection['Code'] = {'URL': method.url}
    elif method is not None:
        collection['Paper'] = {'Title': method.paper, 'URL': method.url}
    collection['README'] = f'configs/{folder}/README.md'
    note = (
        '# Written by tools/make_configs.py. Figures marked as reported are those of the source.\n'
    )
    content = {'Collections': [collection], 'Models': models}
    return note + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=200)


def all_files() -> dict[str, str]:
    """Every file that this command writes: its text by its path in the repository."""
    beside = {'configs/imagenet/metafile.yml': beside_mmrazor()}
    return {**cifar100_files(), **imagenet_files(), **beside}


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

"""The check before training: what cannot be right ends in one sentence, what is right passes."""

from __future__ import annotations

import copy
import re

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import PretrainedInit
from mmengine.runner import Runner

from mmkendall.engine.checks.teachers import check_class_names
from mmkendall.engine.distill_config import (
    add_rank_loss,
    build_runner,
    check_distill_config,
    load_config,
    train,
)
from mmkendall.engine.errors import REFUSALS, ConfigError
from mmkendall.engine.hooks import NonFiniteError
from mmkendall.models import LogitDistill
from mmkendall.warn_once import warn_once

from ..conftest import REPOSITORY
from .wrong_configs import BUILT, TERMS, augmented, fresh_teacher, rank, set_at

DIGITS = REPOSITORY / 'configs/digits'
PAIR = 'logits_resnet18-w16_resnet18-w4_1xb64_digits.py'


def small(cfg: Config, folder) -> Config:
    """A config on sixteen images, without validation."""
    cfg.train_dataloader.dataset.indices = 16
    cfg.train_dataloader.batch_size = 8
    cfg.train_cfg = dict(by_epoch=True, max_epochs=1)
    for name in ('dataloader', 'evaluator', 'cfg'):
        cfg[f'val_{name}'] = cfg[f'test_{name}'] = None
    cfg.visualizer.vis_backends = None
    cfg.work_dir = str(folder)
    cfg.log_level = 'WARNING'
    cfg.randomness = dict(seed=0)
    cfg.train_dataloader.dataset.serialize_data = False
    # mmengine's formatter takes a while, and takes names alone for types: some tests have classes.
    return Config(cfg._cfg_dict, format_python_code=False)


@pytest.fixture(scope='module')
def teacher(tmp_path_factory) -> str:
    """The checkpoint of a teacher that was trained for an epoch of sixteen images."""
    folder = tmp_path_factory.mktemp('teacher')
    cfg = small(Config.fromfile(DIGITS / 'resnet18-w16_1xb64_digits.py'), folder)
    Runner.from_cfg(cfg).train()
    return str(folder / 'epoch_1.pth')


@pytest.fixture(scope='module')
def right(teacher, tmp_path_factory) -> Config:
    """A config that can be trained."""
    cfg = small(Config.fromfile(DIGITS / f'kd_{PAIR}'), tmp_path_factory.mktemp('run'))
    cfg.model.teacher_ckpt = teacher
    return cfg


@pytest.fixture(autouse=True)
def _warn_again():
    warn_once.cache_clear()


def check(cfg: Config) -> None:
    """All that tools/train.py does up to the first step."""
    check_distill_config(cfg)
    train(build_runner(cfg), stop_after_first=True)


def refusal(cfg: Config, checked=check) -> str:
    """The sentence with which a config is refused."""
    with pytest.raises((*REFUSALS, NonFiniteError)) as refused:
        checked(cfg)
    message = str(refused.value)
    assert '\n' not in message
    assert 'Traceback' not in message
    return message


@pytest.mark.parametrize('index', range(len(TERMS)))
def test_a_config_that_cannot_be(index, right):
    mutate, words = TERMS[index]
    cfg = copy.deepcopy(right)
    mutate(cfg)
    message = refusal(cfg)
    assert re.search(words, message), message


def test_a_package_that_does_not_import(right, tmp_path, monkeypatch):
    """The registry has none of its types then, and mmengine does not say why."""
    package = tmp_path / 'halfmmzoo'
    package.mkdir()
    (package / '__init__.py').write_text('import a_dependency_that_is_not_there\n')
    monkeypatch.syspath_prepend(tmp_path)
    cfg = copy.deepcopy(right)
    cfg.visualizer = dict(type='halfmmzoo.Visualizer')
    message = refusal(cfg)
    assert 'visualizer' in message
    assert "halfmmzoo cannot be imported: ModuleNotFoundError: No module named 'a_dep" in message
    assert 'halfmmzoo/__init__.py:1' in message


@pytest.mark.parametrize('index', range(len(BUILT)))
def test_a_model_or_a_batch_that_cannot_be(index, right):
    mutate, words = BUILT[index]
    cfg = copy.deepcopy(right)
    mutate(cfg)
    message = refusal(cfg)
    assert re.search(words, message), message


def test_what_is_right_passes(right):
    check(copy.deepcopy(right))


def warnings_of(action, monkeypatch) -> list[str]:
    """What our code warns of, and not mmengine."""
    said: list[str] = []
    monkeypatch.setattr(
        'mmkendall.warn_once.print_log', lambda message, *rest: said.append(message)
    )
    action()
    return said


OURS = sorted(path.name for path in DIGITS.glob('*logits_*.py'))


@pytest.mark.parametrize('name', OURS)
def test_our_own_pass_without_a_word(name, teacher, tmp_path, monkeypatch):
    cfg = small(Config.fromfile(DIGITS / name), tmp_path)
    cfg.model.teacher_ckpt = teacher
    assert warnings_of(lambda: check(cfg), monkeypatch) == []


@pytest.mark.parametrize('kind', ['mmkendall.LogitDistill', LogitDistill])
def test_several_teachers_pass(kind, right, teacher):
    cfg = copy.deepcopy(right)
    entries = [dict(model=copy.deepcopy(cfg.model.teacher), checkpoint=teacher) for _ in range(2)]
    cfg.model.pop('teacher_ckpt')
    cfg.model.update(type=kind, teacher=entries)
    check(copy.deepcopy(cfg))
    cfg.model.teacher[1].checkpoint = None
    assert 'teacher.1.checkpoint is None' in refusal(copy.deepcopy(cfg))
    cfg.allow_random_teacher = True
    cfg.model.teacher[1].model.head.num_classes = 13
    assert 'and the teacher 13' in refusal(copy.deepcopy(cfg))
    cfg.model.teacher[1].recorders = dict(fc=dict(type='ModuleOutputs', source='fc'))
    assert 'teacher.1.recorders.fc' in refusal(cfg)


@pytest.mark.parametrize('kind', ['Pretrained', PretrainedInit])
@pytest.mark.parametrize('algorithm', ['mmrazor.SingleTeacherDistill', 'mmkendall.LogitDistill'])
def test_a_teacher_that_loads_its_own_weights(kind, algorithm, right, teacher):
    cfg = copy.deepcopy(right)
    cfg.model.type = algorithm
    cfg.model.teacher_ckpt = None
    cfg.model.teacher.init_cfg = dict(type=kind, checkpoint=teacher)
    check(cfg)


@pytest.mark.parametrize('algorithm', ['mmrazor.SingleTeacherDistill', 'mmkendall.LogitDistill'])
def test_class_names(algorithm, right, monkeypatch):
    cfg = copy.deepcopy(right)
    cfg.model.type = algorithm
    cfg.train_dataloader.dataset.metainfo = dict(classes=tuple('9876543210'))
    assert 'the same classes in another order' in refusal(copy.deepcopy(cfg))
    # What puts the logits into the order of the data may stand between teacher and loss.
    picked = copy.deepcopy(cfg)
    picked.model.distiller.connectors = dict(
        order=dict(type='mmrazor.TorchFunctionalConnector', function_name='relu')
    )
    picked.model.distiller.loss_forward_mappings.loss_kl.preds_T.connector = 'order'
    check(picked)
    cfg.train_dataloader.dataset.metainfo = dict(classes=[f'digit {n}' for n in range(10)])
    assert 'not the same' in refusal(copy.deepcopy(cfg))
    cfg.allow_other_class_names = True
    check(cfg)


@pytest.mark.parametrize('algorithm', ['mmrazor.SingleTeacherDistill', 'mmkendall.LogitDistill'])
def test_class_names_that_mmcls_wrote(algorithm, right, teacher, tmp_path):
    state = torch.load(teacher, map_location='cpu')['state_dict']
    cfg = copy.deepcopy(right)
    cfg.model.type = algorithm
    cfg.model.teacher_ckpt = str(tmp_path / 'old.pth')
    torch.save(dict(state_dict=state, meta=dict(CLASSES='9876543210')), tmp_path / 'old.pth')
    check(copy.deepcopy(cfg))  # A string is no list of names.
    torch.save(dict(state_dict=state, meta=dict(CLASSES=[*'9876543210'])), tmp_path / 'old.pth')
    assert 'the same classes in another order' in refusal(cfg)


def test_names_that_are_no_strings_are_compared_as_they_read(right):
    check_class_names(right, [('0', '1')], [0, 1])
    with pytest.raises(ConfigError, match='in another order'):
        check_class_names(right, [('0', '1')], [1, 0])


def test_a_few_names_are_likely_spelled_differently(right, monkeypatch):
    names = [f'class {n}' for n in range(100)]
    others = ['Class 0', *names[1:]]
    said = warnings_of(lambda: check_class_names(right, [tuple(names)], others), monkeypatch)
    assert len(said) == 1
    assert "'class 0' and 'Class 0'" in said[0]


def test_a_teacher_out_of_a_distillation(right, tmp_path):
    cfg = copy.deepcopy(right)
    cfg.work_dir = str(tmp_path)
    train(build_runner(copy.deepcopy(cfg)))
    path = str(tmp_path / 'epoch_1.pth')
    cfg.model.teacher = copy.deepcopy(cfg.model.architecture)
    cfg.model.teacher_ckpt = path
    state = torch.load(path, map_location='cpu')['state_dict']
    for name, weight in build_runner(cfg).model.teacher.state_dict().items():
        assert torch.equal(weight, state[f'architecture.{name}'])


MMRAZORS = {
    'dist/dist_logits_resnet34_resnet18_8xb32_in1k': [],
    'dkd/dkd_resnet34_resnet18_8xb32_in1k': ['sums over the batch'],
    'kd/kd_logits_resnet34_resnet18_8xb32_in1k': [],
    'wsld/wsld_logits_resnet34_resnet18_8xb32_in1k': [],
    'rkd/rkd_neck_resnet34_resnet18_8xb32_in1k': [],
    'fitnets/fitnets_backbone_logits_resnet50_resnet18_8xb32_in1k': [],
    'dafl/dafl_logits_resnet34_resnet18_8xb256_cifar10': [],
    'zskt/zskt_backbone_logits_resnet34_resnet18_8xb16_cifar10': [],
    'byot/byot_resnet18_8xb16_cifar100': [],
    # It leaves a loss of its base aside, and normalises CIFAR-10 as its base does ImageNet.
    'factor_transfer/factor-transfer_backbone_resnet50_resnet18_8xb16_cifar10_train': [
        'loss_s4_pretrain has no entry',
        'data_preprocessor of the config is not used',
    ],
}


@pytest.mark.parametrize(('name', 'expected'), MMRAZORS.items())
def test_mmrazors_own_pass(name, expected, monkeypatch):
    cfg = load_config(f'mmrazor::distill/mmcls/{name}.py')
    said = warnings_of(lambda: check_distill_config(cfg), monkeypatch)
    assert len(said) == len(expected)
    assert all(part in message for part, message in zip(expected, said, strict=True))


def test_the_first_look_changes_nothing(right, tmp_path):
    """Weights to the bit as without it, also BatchNorm's statistics and what draws at random."""
    states = []
    for run in (lambda cfg: Runner.from_cfg(cfg).train(), lambda cfg: train(build_runner(cfg))):
        cfg = copy.deepcopy(right)
        cfg.randomness = dict(seed=3)
        cfg.work_dir = str(tmp_path / str(len(states)))
        cfg.model.architecture.head.type = 'mmpretrain.StackedLinearClsHead'
        cfg.model.architecture.head.update(mid_channels=[16], dropout_rate=0.5)
        cfg.model.distiller.student_recorders.fc.source = 'head.layers.1'
        run(cfg)
        states.append(torch.load(f'{cfg.work_dir}/epoch_1.pth')['state_dict'])
    first, second = states
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize(
    'loader', [dict(batch_size=5, drop_last=True), dict(batch_size=4), dict(batch_size=6)]
)
def test_last_batches_that_train(loader, right):
    cfg = copy.deepcopy(right)
    cfg.train_dataloader.update(loader)
    check(cfg)


def test_a_single_image_is_no_fault_without_batchnorm(right):
    cfg = copy.deepcopy(right)
    cfg.train_dataloader.batch_size = 5
    cfg.model.architecture.backbone.norm_cfg = dict(type='GN', num_groups=2)
    check(cfg)


def by_iterations(cfg: Config, iterations: int, sampler: str = 'DefaultSampler') -> Config:
    cfg = copy.deepcopy(cfg)
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=iterations, val_interval=9)
    cfg.train_dataloader.update(batch_size=5, sampler=dict(type=sampler, shuffle=True))
    cfg.param_scheduler = None
    return cfg


def test_a_last_batch_that_does_not_come(right):
    check(by_iterations(right, 3))
    check(by_iterations(right, 9, 'InfiniteSampler'))
    assert 'would hold a single image' in refusal(by_iterations(right, 9))


def kl_by_mean(cfg: Config) -> None:
    cfg.model.distiller.distill_losses.loss_kl.reduction = 'mean'


@pytest.mark.parametrize(
    ('mutate', 'words'),
    [
        (
            set_at('data_preprocessor', dict(mean=[0.0], std=[95.8])),
            r'as model.data_preprocessor is there and differs in mean \(\[77.8\] for \[0.0\]\)',
        ),
        (lambda cfg: (kl_by_mean(cfg), rank(cfg)), "reduction='batchmean'"),
        (lambda cfg: (kl_by_mean(cfg), augmented(cfg)), "reduction='batchmean'"),
        (lambda cfg: (kl_by_mean(cfg), add_rank_loss(cfg, {})), "reduction='batchmean'"),
        (
            lambda cfg: (
                rank(cfg, steepness=1e9),
                fresh_teacher()(cfg),
                cfg.model.architecture.head.update(init_cfg=None),
            ),
            r'loss_rank: at steepness 1e\+09 only 0\.\d\d% of the pairs .* A steepness of \d+',
        ),
    ],
)
def test_what_may_be_meant_is_said_once(mutate, words, right, monkeypatch):
    cfg = copy.deepcopy(right)

    def twice() -> None:
        mutate(cfg)
        for _ in range(2):
            check(copy.deepcopy(cfg))

    (message,) = warnings_of(twice, monkeypatch)
    assert re.search(words, message), message


def test_the_steepness_that_is_offered_does(right, monkeypatch):
    cfg = copy.deepcopy(right)
    cfg.model.architecture.head.init_cfg = None
    rank(cfg, steepness=1e6)
    (message,) = warnings_of(lambda: check(copy.deepcopy(cfg)), monkeypatch)
    warn_once.cache_clear()
    offered = float(re.search(r'A steepness of (\S+) leaves', message).group(1))
    cfg.model.distiller.distill_losses.loss_rank.steepness = offered
    assert warnings_of(lambda: check(cfg), monkeypatch) == []
    # No steepness takes the gradient from a wrong pair.
    cfg.model.distiller.distill_losses.loss_rank.update(steepness=1e6, surrogate='logistic')
    assert warnings_of(lambda: check(cfg), monkeypatch) == []


@pytest.mark.parametrize(
    ('distiller', 'model'),
    [
        # Reverse KL: with a gradient on the teacher's side the student may stand there.
        (
            dict(
                distill_losses=dict(loss_kl=dict(teacher_detach=False)),
                loss_forward_mappings=dict(
                    loss_kl=dict(
                        preds_S=dict(from_student=False, recorder='fc'),
                        preds_T=dict(from_student=True, recorder='fc'),
                    )
                ),
            ),
            {},
        ),
        (dict(distill_losses=dict(loss_kl=dict(loss_weight=0))), {}),
        (dict(distill_losses=dict(loss_kl=dict(loss_weight=np.float64(0.5)))), {}),
        (dict(_scope_='mmcls', type='mmrazor.ConfigurableDistiller'), 'other scope'),
        ({}, dict(student_trainable=False, calculate_student_loss=False)),
    ],
)
def test_what_is_meant_passes(distiller, model, right, monkeypatch):
    cfg = copy.deepcopy(right)
    if model == 'other scope':
        for part in ('student_recorders', 'teacher_recorders'):
            cfg.model.distiller[part].fc._scope_ = 'mmrazor'
        cfg.model.distiller.distill_losses.loss_kl._scope_ = 'mmrazor'
        model = {}
    cfg.merge_from_dict(dict(model=dict(distiller=distiller, **model)))
    check_distill_config(cfg)


NEW_STYLE = """
from mmengine.dataset import DefaultSampler
from mmengine.model import PretrainedInit
from mmrazor.models.algorithms import SingleTeacherDistill
from mmrazor.models.distillers import ConfigurableDistiller
from mmrazor.models.losses import KLDivergence

from mmkendall.models import KendallRankLoss

recorders = dict(fc=dict(type='ModuleOutputs', source='head.fc'))
records = dict(
    preds_S=dict(from_student=True, recorder='fc'),
    preds_T=dict(from_student=False, recorder='fc'),
)
model = dict(
    type=SingleTeacherDistill,
    distiller=dict(
        _scope_='mmrazor',
        type=ConfigurableDistiller,
        student_recorders=recorders,
        teacher_recorders=recorders,
        distill_losses=dict(loss_kl=dict(type=KLDivergence, tau=4), {name}=dict(type={kind})),
        loss_forward_mappings=dict(loss_kl=records, {name}=records),
    ),
)
"""


@pytest.mark.parametrize(
    ('name', 'kind', 'words'),
    [
        ('rank', 'KendallRankLoss', 'Call it loss_rank'),
        ('kd', 'KLDivergence', 'Call it loss_kd'),
        ('loss_rank', 'KendallRankLoss', None),
    ],
)
def test_new_style_configs(name, kind, words, right, tmp_path):
    path = tmp_path / 'new_style.py'
    path.write_text(NEW_STYLE.replace('{name}', name).replace('{kind}', kind))
    new, cfg = load_config(str(path)), copy.deepcopy(right)
    new.model.update({key: cfg.model[key] for key in cfg.model if key not in new.model})
    cfg.model = new.model
    if words is None:
        check(cfg)
    else:
        assert re.search(words, refusal(cfg))


def test_rank_loss_beside_a_class_of_ones_own(right):
    """A loss that derives from one that we know, and a distiller as a class."""
    from mmrazor.models.losses import KLDivergence

    class Softer(KLDivergence):
        pass

    cfg = copy.deepcopy(right)
    cfg.model.distiller.distill_losses.loss_kl.type = Softer
    added = add_rank_loss(cfg, dict(steepness=1))
    assert added['loss_rank']['loss_weight'] == 0.9
    check(cfg)

"""The weights that were named are those that are trained or tested; else the run ends."""

from __future__ import annotations

import copy
import logging
import sys

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from mmengine.registry import MODELS
from mmengine.runner import Runner, load_checkpoint
from mmpretrain import get_model

from mmkendall.engine.checks import build_runner
from mmkendall.engine.checks.built_model import check_built_model
from mmkendall.engine.errors import ConfigError
from mmkendall.models.algorithms import loading
from mmkendall.models.algorithms.loading import CheckpointError, LoadingCheck

from ..conftest import call_tool
from ..short_runs import DIGITS, PAIR, STUDENT, TEACHER, short_config, short_run

EMA = [dict(type='mmengine.EMAHook', momentum=0.5)]
MMRAZOR = {'model.type': 'mmrazor.SingleTeacherDistill'}


@pytest.fixture(scope='module')
def runs(tmp_path_factory) -> dict[str, tuple[str, dict]]:
    """Checkpoints of short runs, each with the student's weights under the plain names."""
    made = {}
    for name, config, options in (
        ('teacher', TEACHER, {}),
        ('student', STUDENT, {}),
        ('distilled', PAIR, {'custom_hooks': EMA}),
        ('mmrazor', PAIR, MMRAZOR),
    ):
        folder = tmp_path_factory.mktemp(name)
        if name == 'distilled':
            options['model.teacher_ckpt'] = made['teacher'][0]
        short_run(config, folder, **options)
        path = str(folder / 'epoch_1.pth')
        state = torch.load(path)['state_dict']
        prefix = 'architecture.' if config == PAIR else ''
        student = {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
        made[name] = (path, student)
    return made


@pytest.fixture
def warnings(monkeypatch) -> list[str]:
    """What is warned of, and none of it as said before."""
    said = []
    loading.warn_once.cache_clear()

    def say(text, logger, level=logging.INFO):
        said.append(text)

    for module in (loading, sys.modules['mmkendall.warn_once']):
        monkeypatch.setattr(module, 'print_log', say)
    return said


def same(module: torch.nn.Module, state: dict) -> bool:
    return all(torch.equal(value, state[name]) for name, value in module.state_dict().items())


def loaded_by_runner(config: str, checkpoint: str, folder, complete=False, **options) -> Runner:
    runner = Runner.from_cfg(short_config(config, folder, load_from=checkpoint, **options))
    check_built_model(runner, complete)
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.call_hook('before_run')
    runner.load_or_resume()
    return runner


@pytest.mark.parametrize('config', [PAIR, 'mmrazor', STUDENT])
@pytest.mark.parametrize('name', ['student', 'distilled', 'mmrazor'])
def test_a_student_is_found_wherever_it_is(runs, tmp_path, name, config, warnings):
    path, expected = runs[name]
    options = MMRAZOR if config == 'mmrazor' else {}
    hooks = dict(custom_hooks=copy.deepcopy(EMA))
    config = PAIR if config == 'mmrazor' else config
    runner = loaded_by_runner(config, path, tmp_path, complete=True, **hooks, **options)
    student = runner.model.architecture if config == PAIR else runner.model
    assert same(student, expected)
    # Nor does an averaged copy of the model start from other weights.
    averaged = runner._hooks[[type(h).__name__ for h in runner._hooks].index('EMAHook')].ema_model
    assert same(averaged.module.architecture if config == PAIR else averaged.module, expected)


@pytest.mark.parametrize('config', [PAIR, 'mmrazor', STUDENT])
def test_a_checkpoint_of_another_network_is_refused(runs, tmp_path, config):
    options = MMRAZOR if config == 'mmrazor' else {}
    config = PAIR if config == 'mmrazor' else config
    with pytest.raises(
        CheckpointError,
        match=r"epoch_1.pth' holds 1 of the 102 tensors of the .*, a ImageClassifier: 101 have "
        r'another shape \(backbone.conv1.weight \(.* and 98 more\); it has backbone, head',
    ):
        loaded_by_runner(config, runs['teacher'][0], tmp_path, **options)


def test_every_tool_says_so_in_a_sentence(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    wrong = runs['teacher'][0]
    mmrazors = ['--work-dir', 'out', '--cfg-options', f'model.teacher_ckpt={wrong}']
    ours = [*mmrazors, 'model.type=mmkendall.LogitDistill']
    for command in (
        ['train.py', DIGITS / PAIR, *ours, f'load_from={wrong}'],
        ['test.py', DIGITS / PAIR, wrong, *mmrazors],
        ['test.py', DIGITS / STUDENT, wrong, '--work-dir', 'out'],
    ):
        assert call_tool(monkeypatch, *command) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert f'{command[0]}: error: the checkpoint {wrong!r} holds 1 of the 102 ' in error
    assert call_tool(monkeypatch, 'test.py', DIGITS / PAIR, runs['student'][0], *ours) == 0


def test_a_head_for_other_classes_is_left_with_one_warning(runs, tmp_path, warnings):
    head = {'model.architecture.head.num_classes': 7, 'model.teacher.head.num_classes': 7}
    runner = loaded_by_runner(PAIR, runs['student'][0], tmp_path, **head)
    state = runner.model.architecture.state_dict()
    assert torch.equal(state['backbone.conv1.weight'], runs['student'][1]['backbone.conv1.weight'])
    (warning,) = [text for text in warnings if 'holds' in text]
    assert '100 of the 102 tensors' in warning
    assert '2 have another shape (head.fc.weight (' in warning
    loaded_by_runner(PAIR, runs['student'][0], tmp_path, **head)
    assert len([text for text in warnings if 'holds' in text]) == 1
    with pytest.raises(CheckpointError, match='100 of the 102'):
        loaded_by_runner(PAIR, runs['student'][0], tmp_path, complete=True, **head)


def test_names_with_a_wrappers_prefix(runs):
    """DistributedDataParallel's and an average's own state dicts, as torch writes them."""
    path, expected = runs['student']
    student = MODELS.build(short_config(STUDENT, '').model)
    load_checkpoint(student, path)
    averaged = ExponentialMovingAverage(student)
    averaged.update_parameters(student)
    model = MODELS.build(short_config(PAIR, '').model)
    model.load_state_dict(averaged.state_dict(), strict=False)
    assert same(model.architecture, expected)
    path, expected = runs['distilled']
    state = torch.load(path)['state_dict']
    model = MODELS.build(short_config(PAIR, '').model)
    model.load_state_dict({f'module.{name}': state[name] for name in state}, strict=False)
    assert same(model.architecture, expected)


def test_init_cfg_is_checked_too(runs):
    cfg = short_config(PAIR, '').model
    cfg.architecture.init_cfg = dict(type='Pretrained', checkpoint=runs['distilled'][0])
    model = MODELS.build(cfg)
    model.init_weights()
    assert same(model.architecture, runs['distilled'][1])
    cfg.architecture.init_cfg.checkpoint = runs['teacher'][0]
    with pytest.raises(CheckpointError, match='holds 1 of the 102 tensors of the student'):
        MODELS.build(cfg).init_weights()
    del cfg.architecture.init_cfg
    cfg.teacher.init_cfg = dict(type='Pretrained', checkpoint=runs['student'][0])
    with pytest.raises(CheckpointError, match='holds 1 of the 102 tensors of the teacher'):
        MODELS.build(cfg).init_weights()


def test_init_cfg_of_a_part_is_checked_too(runs, tmp_path):
    path, state = runs['student']
    for prefix in ('backbone.', None):
        part = dict(type='Pretrained', checkpoint=path, prefix=prefix)
        plain = short_config(STUDENT, tmp_path, **{'model.backbone.init_cfg': part})
        pair = short_config(PAIR, tmp_path, **{'model.architecture.backbone.init_cfg': part})
        runner = Runner.from_cfg(plain)
        check_built_model(runner, complete=False)
        for name, model in (('model', runner.model), ('student', MODELS.build(pair.model))):
            if prefix is None:
                message = f'holds 0 of the 100 tensors of the {name}, backbone, .* it has backbone'
                with pytest.raises(CheckpointError, match=message):
                    model.init_weights()
            else:
                model.init_weights()
                assert torch.equal(model.backbone.conv1.weight, state['backbone.conv1.weight'])


@pytest.fixture
def teacher(runs):
    """The content of the teacher's checkpoint, and a function that builds a model with it."""
    checkpoint = torch.load(runs['teacher'][0])

    def build(folder):
        path = str(folder / 'changed.pth')
        torch.save(checkpoint, path)
        cfg = short_config(PAIR, folder).model
        cfg.teacher_ckpt = path
        return MODELS.build(cfg)

    return checkpoint, build


def test_what_came_of_a_teachers_checkpoint_is_kept(teacher, tmp_path):
    checkpoint, build = teacher
    checkpoint['state_dict']['aux_head.weight'] = torch.ones(1)
    model = build(tmp_path)
    (check,) = model.teacher_loading
    assert (check.missing, check.mismatched) == ([], [])
    assert check.unexpected == ['aux_head.weight']
    assert model.teacher_classes == [tuple('0123456789')]


def test_classes_of_teachers(runs):
    path = runs['teacher'][0]
    cfg = short_config(PAIR, '').model
    config = cfg.teacher.to_dict()
    hub = get_model(str(DIGITS / TEACHER), pretrained=path)
    cfg.pop('teacher_ckpt')
    cfg.teacher = [dict(model=config, checkpoint=path), dict(model=hub), dict(model=config)]
    assert MODELS.build(cfg).teacher_classes == [tuple('0123456789')] * 2 + [None]


def test_teacher_checkpoints_that_end_the_run(teacher, runs, tmp_path):
    checkpoint, build = teacher
    del checkpoint['state_dict']['head.fc.bias']
    with pytest.raises(CheckpointError, match=r'101 of the 102 .* 1 are missing \(head.fc.bias\)'):
        build(tmp_path)
    checkpoint['state_dict'] = copy.deepcopy(runs['teacher'][1])
    checkpoint['state_dict']['backbone.bn1.running_var'][2] = torch.nan
    with pytest.raises(CheckpointError, match=r'1 of the 16 values of backbone.bn1.running_var'):
        build(tmp_path)
    checkpoint['state_dict'] = runs['student'][1]
    with pytest.raises(CheckpointError, match=r"changed.pth' holds 1 of the 102 .* teacher"):
        build(tmp_path)


def test_the_teacher_of_mmrazors_algorithm_is_checked_by_the_tools(runs, tmp_path, warnings):
    def built(path):
        cfg = short_config(PAIR, tmp_path, **MMRAZOR, **{'model.teacher_ckpt': path})
        return build_runner(cfg)

    assert same(built(runs['teacher'][0]).model.teacher, runs['teacher'][1])
    assert not warnings
    with pytest.raises(ConfigError, match="the teacher's weights would be random"):
        built(None)
    with pytest.raises(CheckpointError, match='holds 1 of the 102 tensors of the teacher'):
        built(runs['student'][0])


def test_a_run_goes_on_from_its_own_checkpoint_alone(runs, tmp_path):
    options = dict(resume=True, custom_hooks=copy.deepcopy(EMA))
    options['model.teacher_ckpt'] = runs['teacher'][0]
    runner = loaded_by_runner(PAIR, runs['distilled'][0], tmp_path, complete=True, **options)
    assert runner.epoch == 1
    # The average is what the checkpoint has under the plain names: mmengine swaps the two.
    assert not same(runner.model.architecture, runs['distilled'][1])
    with pytest.raises(CheckpointError, match='holds 1 of the 102'):
        loaded_by_runner(PAIR, runs['teacher'][0], tmp_path, complete=True, **options)


def test_the_student_of_a_distillation_can_teach(runs):
    cfg = short_config(PAIR, '').model
    cfg.teacher = copy.deepcopy(cfg.architecture)
    cfg.teacher_ckpt = runs['distilled'][0]
    assert same(MODELS.build(cfg).teacher, runs['distilled'][1])


def test_a_checkpoint_with_another_teacher_is_said(runs, tmp_path, warnings):
    cfg = short_config(PAIR, tmp_path).model
    cfg.teacher_ckpt = runs['teacher'][0]
    load_checkpoint(MODELS.build(cfg), runs['mmrazor'][0])
    assert [text for text in warnings if 'has other weights than the teacher' in text]
    warnings.clear()
    load_checkpoint(MODELS.build(cfg), runs['distilled'][0])
    assert not [text for text in warnings if 'has other weights' in text]


def test_names_that_a_models_own_hooks_translate_are_no_fault():
    """A position embedding of another size is resized as it is loaded."""
    vit = dict(type='mmpretrain.VisionTransformer', arch='deit-tiny', patch_size=16)
    models = [
        MODELS.build(dict(type='mmpretrain.ImageClassifier', backbone=dict(**vit, img_size=size)))
        for size in (32, 64)
    ]
    check = LoadingCheck(models[1], 'model', complete=True)
    models[1].load_state_dict(models[0].state_dict())
    assert check.mismatched == check.missing == []

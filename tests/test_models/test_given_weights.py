"""A teacher is what was given, from when it was built to the end of training."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, MODELS
from mmengine.runner import Runner, save_checkpoint
from mmpretrain import get_model
from torch import nn

from mmkendall.models import LogitDistill
from mmkendall.models.algorithms.checkpoints import weights_checksum

from ..short_runs import DIGITS, PAIR, STUDENT, TEACHER, short_config, short_run

HOOKS_OF_A_USER = [
    dict(type='mmengine.EMAHook', momentum=0.3),
    dict(type='mmengine.EMAHook', ema_type='StochasticWeightAverage', update_buffers=True),
    dict(type='mmpretrain.PreciseBNHook', num_samples=64),
    dict(type='mmengine.SyncBuffersHook'),
    dict(type='InitAgain'),
]


@HOOKS.register_module(force=True)
class InitAgain(Hook):
    """What a hook of a user may do: it initialises the model, which is a training already."""

    def before_train(self, runner) -> None:
        runner.model.init_weights()


def trained(name: str) -> nn.Module:
    """A model of digits as after some training, on its own."""
    model = MODELS.build(short_config(name, '').model)
    model.init_weights()
    for value in [*model.parameters(), *model.buffers()]:
        if value.is_floating_point():
            value.data += torch.rand_like(value)
    return model


@pytest.fixture
def given(tmp_path):
    """A teacher's weights, its checksum, its config, and its checkpoint."""
    model = trained(TEACHER)
    path = str(tmp_path / 'teacher.pth')
    save_checkpoint({'state_dict': model.state_dict(), 'meta': {}}, path)
    config = short_config(TEACHER, '').model.to_dict()
    return model.state_dict(), weights_checksum(model), config, path


def as_object(given) -> nn.Module:
    """An object with loaded weights, which mmengine takes for one that was never initialised."""
    state, _, config, _ = given
    model = MODELS.build(copy.deepcopy(config))
    model.load_state_dict(state)
    assert not model.is_init
    return model


def ways(given) -> dict:
    """Every way to give a teacher."""
    _, _, config, path = given
    pretrained = {**config, 'init_cfg': dict(type='Pretrained', checkpoint=path)}
    hub = get_model(str(DIGITS / TEACHER), pretrained=path)
    parts = as_object(given)
    in_parts = dict(config, backbone=parts.backbone, head=parts.head)
    return {
        'checkpoint': dict(teacher=config, teacher_ckpt=path),
        'init_cfg': dict(teacher=pretrained),
        'object': dict(teacher=as_object(given)),
        'hub': dict(teacher=hub),
        'parts': dict(teacher=in_parts),
        'list of checkpoints': dict(teacher=[dict(model=config, checkpoint=path)] * 2),
        'list of init_cfgs': dict(teacher=[dict(model=pretrained)] * 2),
        'list of objects': dict(teacher=[dict(model=as_object(given)) for _ in range(2)]),
    }


@pytest.mark.parametrize(
    'way',
    [
        'checkpoint', 'init_cfg', 'object', 'hub', 'parts', 'list of checkpoints',
        'list of init_cfgs', 'list of objects',
    ],
)  # fmt: skip
def test_the_teacher_at_the_end_is_the_one_that_was_given(given, tmp_path, way):
    cfg = short_config(PAIR, tmp_path, custom_hooks=copy.deepcopy(HOOKS_OF_A_USER))
    options = {**cfg.model, **copy.deepcopy(ways(given)[way])}
    del options['type']
    model = LogitDistill(**options)
    expected = [given[1]] * len(model.teachers)
    if way not in ('init_cfg', 'list of init_cfgs'):
        assert model.teacher_checksums() == expected
    runner = Runner(
        model,
        str(tmp_path),
        **{
            key: cfg[key]
            for key in (
                'train_dataloader', 'train_cfg', 'optim_wrapper', 'custom_hooks', 'log_level',
                'experiment_name', 'default_scope',
            )
        },
    )  # fmt: skip
    runner.train()
    assert model.teacher_checksums() == expected
    # mmengine puts the averages into the checkpoint; the average of a teacher is the teacher.
    state = torch.load(str(tmp_path / 'epoch_1.pth'))['state_dict']
    for name, value in state.items():
        if name.startswith('teacher.'):
            name = name.removeprefix('teacher.').removeprefix('0.').removeprefix('1.')
            assert torch.equal(value, given[0][name]), name


def test_a_cache_is_made_of_the_teacher_that_was_given(given):
    """tools/dataset_converters/cache_teacher_logits.py initialises the model as a runner does."""
    for way, options in ways(given).items():
        cfg = short_config(PAIR, '').model
        options = {**cfg, **options}
        del options['type']
        model = LogitDistill(**options)
        model.init_weights()
        assert model.teacher_checksums() == [given[1]] * len(model.teachers), way


def test_a_student_that_is_an_object_keeps_its_weights(tmp_path):
    student = trained(STUDENT)
    before = weights_checksum(student)
    cfg = short_config(PAIR, tmp_path).model
    options = {**cfg, 'architecture': student}
    del options['type']
    model = LogitDistill(**options)
    model.init_weights()
    assert weights_checksum(model.architecture) == before


def test_an_object_that_has_not_loaded_its_weights_yet(given):
    _, checksum, config, path = given
    config = {**config, 'init_cfg': dict(type='Pretrained', checkpoint=path)}
    cfg = short_config(PAIR, '').model
    options = {**cfg, 'teacher': MODELS.build(config)}
    del options['type']
    with pytest.raises(ValueError, match='teacher is a ImageClassifier object whose init_cfg'):
        LogitDistill(**options)
    options['teacher'].init_weights()
    assert LogitDistill(**options).teacher_checksums() == [checksum]


def test_a_nan_in_a_teacher_that_is_an_object(given):
    model = as_object(given)
    model.head.fc.weight.data[0, 0] = torch.inf
    options = {**short_config(PAIR, '').model, 'teacher': model}
    del options['type']
    with pytest.raises(ValueError, match=r'1 of the 1280 values of head.fc.weight of the teacher'):
        LogitDistill(**options)


def test_a_random_teacher_trains_as_it_was_initialised(tmp_path):
    """The only way to have none of its own: a config alone, as in a test of a config."""
    runner = short_run(PAIR, tmp_path)
    other = short_run(PAIR, tmp_path)
    assert runner.model.teacher_checksums() == other.model.teacher_checksums()

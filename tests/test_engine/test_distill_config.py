from __future__ import annotations

import copy

import pytest
from mmengine.config import Config

from mmkendall.engine import read_config
from mmkendall.engine.distill_config import (
    ConfigError,
    add_rank_loss,
    check_distill_config,
    config_first,
    load_config,
    parse_rank_options,
)
from mmkendall.models.distillers import build_rank_augmented_distiller
from mmkendall.models.distillers.rank_augmented_distiller import RankAugmentedDistiller

FC = dict(type='ModuleOutputs', source='head.fc')
RECORDS = dict(
    preds_S=dict(from_student=True, recorder='fc'), preds_T=dict(from_student=False, recorder='fc')
)


def distillation(losses: dict, mappings: dict, **model) -> Config:
    distiller = dict(
        type='ConfigurableDistiller',
        student_recorders=dict(fc=FC),
        teacher_recorders=dict(fc=FC),
        distill_losses=losses,
        loss_forward_mappings=mappings,
    )
    return Config(dict(model=dict(type='SingleTeacherDistill', distiller=distiller, **model)))


def test_load_config(tmp_path):
    path = 'mmrazor::distill/mmcls/kd/kd_logits_resnet34_resnet18_8xb32_in1k.py'
    assert load_config(path).model.distiller.distill_losses.loss_kl.loss_weight == 3
    for path in ('nowhere.py', 'mmrazor::nowhere/at_all.py', 'no_such_package::a/b.py'):
        with pytest.raises(ConfigError, match=r'nowhere|no_such_package'):
            load_config(path)


def test_a_config_of_a_package_that_is_missing(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text("_base_ = ['mmyolo::a/b.py']")
    with pytest.raises(ConfigError, match='mmyolo is not installed'):
        load_config(str(path))


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg'])
def test_a_detector_needs_compiled_operators(scope, tmp_path, monkeypatch):
    monkeypatch.setattr(
        read_config, 'find_spec', lambda name: None if name == 'mmcv._ext' else object()
    )
    path = tmp_path / 'config.py'
    path.write_text(f'default_scope = {scope!r}')
    with pytest.raises(ConfigError, match=f'is of {scope}, .* mmcv-lite has none'):
        load_config(str(path))


def test_parse_rank_options():
    assert parse_rank_options('') == {}
    options = parse_rank_options('steepness=10,surrogate=hard_teacher,mink=0.1,standardize=True')
    assert options == dict(steepness=10, surrogate='hard_teacher', mink=0.1, standardize=True)
    assert parse_rank_options('surrogate=logistic,steepness=1')['surrogate'] == 'logistic'


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('steepnes=10', "names out of steepness, .*got 'steepnes=10'"),
        ('10', "got '10'"),
        ('steepness=-1', 'steepness must be positive'),
        ('backend=eagr', "got 'eagr'"),
    ],
)
def test_parse_rank_options_refuses(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_rank_options(text)


def test_added_beside_the_logit_loss_with_its_weight_and_records():
    logits_s = dict(from_student=True, recorder='fc', connector='c')
    logits_t = dict(from_student=False, recorder='fc')
    cfg = distillation(
        dict(loss_at=dict(type='ATLoss'), loss_dist=dict(type='mmrazor.DISTLoss', loss_weight=2)),
        dict(loss_at={}, loss_dist=dict(logits_S=logits_s, logits_T=logits_t)),
    )
    added = add_rank_loss(cfg, dict(steepness=10))
    expected = dict(type='mmkendall.KendallRankLoss', loss_weight=2, steepness=10)
    assert added == {'loss_rank': expected}
    assert cfg.model.distiller.distill_losses.loss_rank == expected
    mapping = cfg.model.distiller.loss_forward_mappings.loss_rank
    assert mapping == dict(preds_S=logits_s, preds_T=logits_t)
    # A weight of one's own wins; the default is 1.
    cfg = distillation(dict(loss_kl=dict(type='KLDivergence')), dict(loss_kl=RECORDS))
    assert add_rank_loss(copy.deepcopy(cfg), {})['loss_rank']['loss_weight'] == 1
    assert add_rank_loss(cfg, dict(loss_weight=7))['loss_rank']['loss_weight'] == 7
    with pytest.raises(ConfigError, match='already has'):
        add_rank_loss(cfg, {})


def test_added_beside_each_of_several():
    kl = dict(type='KLDivergence')
    cfg = distillation(
        dict(loss_a=kl, loss_b=kl, kl_only_logged=kl), dict(loss_a=RECORDS, loss_b=RECORDS)
    )
    assert set(add_rank_loss(cfg, {})) == {'loss_rank_a', 'loss_rank_b'}


def test_nothing_to_add_to():
    with pytest.raises(ConfigError, match=r'model\.distiller.*ImageClassifier'):
        add_rank_loss(Config(dict(model=dict(type='ImageClassifier'))), {})
    cfg = distillation(dict(loss_at=dict(type='ATLoss')), dict(loss_at={}))
    with pytest.raises(ConfigError, match=r'no logit loss.*loss_at \(ATLoss\).*yourself'):
        add_rank_loss(cfg, {})


RANK = dict(type='mmkendall.KendallRankLoss')


@pytest.mark.parametrize(
    ('losses', 'mappings', 'model', 'message'),
    [
        (dict(rank=RANK), dict(rank=RECORDS), {}, 'never trained.*Call it loss_rank'),
        (dict(loss_rank=RANK), {}, {}, 'no entry in loss_forward_mappings'),
        (
            dict(loss_rank=RANK),
            dict(loss_rank=dict(preds_S=dict(from_student=True, recorder='fx'))),
            {},
            "preds_S reads recorder 'fx', which is not in student_recorders: fc",
        ),
        (
            dict(loss_rank=RANK),
            dict(loss_rank=dict(preds_T=dict(from_student=False, recorder='fc', connector='x'))),
            {},
            "connector 'x', which is not in connectors: none",
        ),
        (
            dict(loss_rank=RANK),
            dict(loss_rank=RECORDS),
            dict(teacher_ckpt='gone.pth'),
            "'gone.pth' does not exist.*--cfg-options model.teacher_ckpt",
        ),
        (
            {},
            {},
            dict(teacher=[dict(model={}), dict(model={}, checkpoint='gone.pth')]),
            "'gone.pth' does not exist.*--cfg-options model.teacher.1.checkpoint",
        ),
    ],
)
def test_check_refuses(losses, mappings, model, message):
    with pytest.raises(ConfigError, match=message):
        check_distill_config(distillation(losses, mappings, **model))


def test_check_passes():
    check_distill_config(Config(dict(model=dict(type='ImageClassifier'))))
    cfg = distillation(
        dict(loss_rank=RANK), dict(loss_rank=RECORDS), teacher_ckpt='https://host/teacher.pth'
    )
    check_distill_config(cfg)


def test_not_added_where_the_distiller_adds_it():
    cfg = distillation(dict(loss_kl=dict(type='KLDivergence')), dict(loss_kl=RECORDS))
    cfg.model.distiller.type = 'mmkendall.RankAugmentedDistiller'
    with pytest.raises(ConfigError, match=r'model\.distiller\.rank_loss\.NAME=VALUE'):
        add_rank_loss(cfg, {})


def feature_distillation(kind: str, arguments: tuple[str, str], source: str) -> Config:
    records = {
        name: dict(from_student=side, recorder='map')
        for name, side in zip(arguments, (True, False), strict=True)
    }
    cfg = distillation(dict(loss_map=dict(type=kind, loss_weight=5)), dict(loss_map=records))
    for side in ('student_recorders', 'teacher_recorders'):
        cfg.model.distiller[side].map = dict(type='ModuleOutputs', source=source)
    return cfg


CWD = ('mmrazor.ChannelWiseDivergence', ('preds_S', 'preds_T'))
L1 = ('mmrazor.L1Loss', ('s_feature', 't_feature'))


@pytest.mark.parametrize('loss', [CWD, L1])
@pytest.mark.parametrize('source', ['decode_head.conv_seg', 'head.fc', 'fc', 'head.layers.head'])
def test_added_beside_a_feature_loss_on_logits(loss, source):
    cfg = feature_distillation(*loss, source)
    assert add_rank_loss(cfg, {})['loss_rank']['loss_weight'] == 5
    mapping = cfg.model.distiller.loss_forward_mappings.loss_rank
    assert mapping.preds_S == dict(from_student=True, recorder='map')
    assert mapping.preds_T == dict(from_student=False, recorder='map')


@pytest.mark.parametrize('loss', [CWD, L1])
@pytest.mark.parametrize('source', ['neck.fpn_convs.3.conv', 'backbone.layer4', 'neck.gap'])
def test_not_added_beside_a_loss_on_features(loss, source):
    with pytest.raises(ConfigError, match='Add yourself a recorder of the logits to student_rec'):
        add_rank_loss(feature_distillation(*loss, source), {})


@pytest.mark.parametrize(
    'kind', ['mmkendall.RankAugmentedDistiller', build_rank_augmented_distiller, 'class']
)
def test_not_added_to_a_distiller_that_adds_it_however_it_is_named(kind):
    cfg = distillation(dict(loss_kl=dict(type='KLDivergence')), dict(loss_kl=RECORDS))
    cfg.model.distiller.type = RankAugmentedDistiller if kind == 'class' else kind
    with pytest.raises(ConfigError, match='adds the ranking loss itself'):
        add_rank_loss(cfg, {})
    cfg.model.distiller.update(_scope_='mmkendall', type='RankAugmentedDistiller')
    with pytest.raises(ConfigError, match='adds the ranking loss itself'):
        add_rank_loss(cfg, {})


def test_the_config_is_the_config_wherever_the_option_stands():
    assert config_first(['--rank-loss', 'a/b.py', '--amp']) == ['a/b.py', '--rank-loss=', '--amp']
    assert config_first(['--rank-loss', 'mmrazor::a/b']) == ['mmrazor::a/b', '--rank-loss=']
    for words in (['a.py', '--rank-loss'], ['a.py', '--rank-loss', 'steepness=1']):
        assert config_first(words) == words

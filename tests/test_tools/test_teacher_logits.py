"""Cached teacher logits, from the command that builds them to the losses that read them."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, DefaultScope
from mmengine.runner import save_checkpoint
from torch.utils.data import DataLoader

from mmkendall.compat.safe_loading import load
from mmkendall.engine.teacher_logits_build import is_kind
from mmkendall.functional import (
    kd_loss,
    kendall_rank_loss,
    listmle_loss,
    order_scores,
    pearson_loss,
)
from mmkendall.models import LogitDistill
from mmkendall.models.algorithms.checkpoints import weights_checksum
from mmkendall.models.algorithms.teacher_logits import (
    TeacherLogits,
    TeacherLogitsError,
    TeacherLogitsWriter,
)

from ..conftest import REPOSITORY, call_tool, load_tool, run_tool

DIGITS = REPOSITORY / 'configs' / 'digits'
TOOL = 'dataset_converters/cache_teacher_logits.py'
SAMPLES = 60
CONFIG = """
_base_ = ['{base}']
model = dict(
    type='mmkendall.LogitDistill', teacher_ckpt='{folder}/teacher.pth',
    teacher_logits='{folder}/logits')
train_dataloader = dict(
    batch_size=16,
    dataset=dict(
        _delete_=True, type='mmkendall.FixedViews', num_views=2, seed=7,
        dataset=dict(
            type='mmkendall.Digits', split='train', indices={samples},
            pipeline=[
                dict(type='mmpretrain.RandomCrop', crop_size=8, padding=1),
                dict(type='mmpretrain.PackInputs'),
            ])),
    sampler=dict(type='mmkendall.ViewSampler'))
val_dataloader = dict(dataset=dict(indices=100))
val_cfg = dict(type='mmkendall.DistillValLoop')
train_cfg = dict(max_epochs=2)
randomness = dict(seed=0)
"""


def write_teacher(path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    cfg = Config.fromfile(str(DIGITS / 'resnet18-w16_1xb64_digits.py'))
    teacher = MODELS.build(cfg.model)
    # Logits of the size that trained teachers have.
    torch.nn.init.normal_(teacher.head.fc.weight, std=0.3)
    save_checkpoint({'state_dict': teacher.state_dict()}, str(path))


@pytest.fixture(scope='module')
def built(tmp_path_factory) -> Path:
    """A folder with a config, a teacher, and its logits as the tool wrote them."""
    folder = tmp_path_factory.mktemp('cache')
    write_teacher(folder / 'teacher.pth', 0)
    base = DIGITS / 'kd-rank_logits_resnet18-w16_resnet18-w4_1xb64_digits.py'
    text = CONFIG.format(base=base, folder=folder, samples=SAMPLES)
    (folder / 'config.py').write_text(text)
    done = run_tool(TOOL, 'config.py', '--dtype', 'float32', '--batch-size', '7', cwd=folder)
    assert f'{2 * SAMPLES} rows written' in done.stdout
    return folder


@pytest.fixture(autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


def build(folder: Path, **options):
    """The model, and its training set, as the config says."""
    cfg = Config.fromfile(str(folder / 'config.py'))
    cfg.merge_from_dict(options)
    torch.manual_seed(0)
    return MODELS.build(cfg.model).train(), DATASETS.build(cfg.train_dataloader.dataset)


def losses_and_gradients(model, dataset) -> list[tuple[dict, list]]:
    """Of four batches, mixed over samples and views."""
    order = torch.randperm(dataset.num_rows, generator=torch.Generator().manual_seed(0)).tolist()
    found = []
    loader = DataLoader(dataset, 30, sampler=order, collate_fn=pseudo_collate)
    for batch in loader:
        losses = model(**model.data_preprocessor(batch, True), mode='loss')
        model.zero_grad()
        sum(losses.values()).backward()
        gradients = [parameter.grad.clone() for parameter in model.architecture.parameters()]
        found.append(({name: loss.detach() for name, loss in losses.items()}, gradients))
    return found


def copy_of(built: Path, tmp_path: Path) -> str:
    return str(shutil.copytree(built / 'logits', tmp_path / 'logits'))


@pytest.fixture(scope='module')
def built_topk(built, tmp_path_factory) -> Path:
    """The same, but of each row the three highest logits alone."""
    folder = tmp_path_factory.mktemp('topk')
    shutil.copy(built / 'teacher.pth', folder)
    text = (built / 'config.py').read_text()
    (folder / 'config.py').write_text(text.replace(str(built), str(folder)))
    done = run_tool(TOOL, 'config.py', '--dtype', 'float32', '--topk', '3', cwd=folder)
    assert f'{2 * SAMPLES} rows written' in done.stdout
    return folder


def test_losses_and_gradients_are_those_of_the_live_teacher(built):
    cached = losses_and_gradients(*build(built))
    live = losses_and_gradients(*build(built, **{'model.teacher_logits': None}))
    for (losses, gradients), (expected, expected_gradients) in zip(cached, live, strict=True):
        assert set(losses) == {'student.loss', 'distill.loss_kl', 'distill.loss_rank'}
        torch.testing.assert_close(losses, expected, rtol=1e-6, atol=1e-6)
        # At steepness 100 the ranking loss multiplies a rounded logit by as much.
        torch.testing.assert_close(gradients, expected_gradients, rtol=1e-3, atol=1e-4)


def test_the_teacher_does_not_run(built, monkeypatch):
    model, dataset = build(built)
    monkeypatch.setattr(model.teacher, 'forward', None)
    assert len(losses_and_gradients(model, dataset)) == 4


def test_several_teachers_have_their_logits_each(built, tmp_path, monkeypatch):
    write_teacher(tmp_path / 'other.pth', 1)
    text = (built / 'config.py').read_text()
    text += f"""
model['teacher_ckpt'] = None
model['teacher_logits'] = '{tmp_path}/logits'
teacher = {{{{_base_.teacher}}}}
model['teacher'] = [
    dict(model=teacher, checkpoint='{built}/teacher.pth', weight=3),
    dict(model=teacher, checkpoint='{tmp_path}/other.pth', input_size=12)]
"""
    (tmp_path / 'config.py').write_text(text)
    assert call_tool(monkeypatch, TOOL, tmp_path / 'config.py', '--dtype', 'float32') == 0
    assert np.load(tmp_path / 'logits' / 'logits.npy').shape == (2 * SAMPLES, 2, 10)
    cached = losses_and_gradients(*build(tmp_path))
    live = losses_and_gradients(*build(tmp_path, **{'model.teacher_logits': None}))
    for (losses, _), (expected, _) in zip(cached, live, strict=True):
        torch.testing.assert_close(losses, expected, rtol=1e-6, atol=1e-6)


def highest(logits: torch.Tensor, kept: int) -> torch.Tensor:
    """Minus infinity for all but the highest so many logits of each row."""
    lowest = logits.sort(dim=-1).values[..., -kept:][..., :1]
    return logits.masked_fill(logits < lowest, -torch.inf)


def test_only_the_highest_are_kept(built, built_topk):
    """The losses are those of the whole logits without the others, and what is kept is exact."""
    rows, crcs = range(2 * SAMPLES), np.load(built / 'logits' / 'crc.npy')
    whole = TeacherLogits(built / 'logits').read(rows, crcs)
    assert np.load(built_topk / 'logits' / 'ids.npy').dtype == np.uint16
    assert np.load(built_topk / 'logits' / 'logits.npy').shape == (2 * SAMPLES, 1, 3)
    assert json.loads((built_topk / 'logits' / 'meta.json').read_text())['format'] == 3
    kept = TeacherLogits(built_topk / 'logits').read(rows, crcs)
    torch.testing.assert_close(kept, highest(whole, 3), rtol=1e-5, atol=1e-5)

    model, dataset = build(built_topk)
    for name, connector, definition in (
        ('KDLoss', None, lambda s, t: kd_loss(s, highest(t, 3), 4.0)),
        ('KendallRankLoss', None, lambda s, t: kendall_rank_loss(s, highest(t, 3))),
        ('ListMLELoss', None, lambda s, t: listmle_loss(s, highest(t, 3))),
        ('PearsonLoss', 'OrderScores', lambda s, t: pearson_loss(s, order_scores(highest(t, 3)))),
    ):
        cfg = Config.fromfile(str(built_topk / 'config.py'))
        of_teacher = dict(from_student=False, recorder='fc')
        if connector:
            cfg.model.distiller.connectors = dict(c=dict(type=f'mmkendall.{connector}'))
            of_teacher['connector'] = 'c'
        cfg.model.distiller.distill_losses = dict(loss_x=dict(type=f'mmkendall.{name}'))
        cfg.model.distiller.loss_forward_mappings = dict(
            loss_x=dict(preds_S=dict(from_student=True, recorder='fc'), preds_T=of_teacher)
        )
        torch.manual_seed(0)
        model = MODELS.build(cfg.model).train()
        batch = pseudo_collate([dataset[row] for row in (3, 70, 119, 5)])
        losses = model(**model.data_preprocessor(batch, True), mode='loss')
        sum(losses.values()).backward()
        managers = model.distiller.student_recorders, model.distiller.teacher_recorders
        student, _ = (manager.get_recorder('fc').get_record_data() for manager in managers)
        expected = definition(student, whole[[3, 70, 119, 5], 0])
        torch.testing.assert_close(losses['distill.loss_x'], expected, rtol=1e-4, atol=1e-5)
        assert all(p.grad.isfinite().all() for p in model.architecture.parameters())


@pytest.mark.parametrize('method', ['kd', 'rank'])
def test_the_configs_of_the_digits(method, built_topk):
    pair = 'resnet18-w16_resnet18-w4_1xb64_digits'
    cfg = Config.fromfile(str(DIGITS / f'{method}_scores_{pair}.py'))
    cfg.model.teacher_ckpt = f'{built_topk}/teacher.pth'
    cfg.model.teacher_logits = f'{built_topk}/logits'
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).train()
    _, dataset = build(built_topk)
    name = {'kd': 'distill.loss_kl', 'rank': 'distill.loss_rank'}[method]
    for losses, gradients in losses_and_gradients(model, dataset):
        assert set(losses) == {'student.loss', name}
        assert all(value.isfinite() for value in (*losses.values(), *map(torch.sum, gradients)))


def test_which_of_many_classes_are_kept(tmp_path):
    """Ids above 65,535, several teachers, in half precision, and the minus infinity of a table."""
    teachers = {'weights': ['a', 'b'], 'table': {'file': 'scores.csv'}}
    made_of = {**MADE_OF, 'rows': 3, 'samples': 3, 'classes': 70_000, 'dtype': 'float16'}
    writer = TeacherLogitsWriter(tmp_path, {**made_of, 'teachers': teachers, 'topk': 4})
    logits = torch.randn(3, 2, 70_000, generator=torch.Generator().manual_seed(0))
    logits[1, 0, 5:] = logits[1, 0, 2] = -torch.inf
    logits[0, 1, 69_999] = 20
    writer.append(logits, [1, 2, 3])
    writer.flush()
    assert np.load(tmp_path / 'ids.npy').dtype == np.uint32
    found = TeacherLogits(tmp_path).read(range(3), [1, 2, 3])
    expected = highest(logits, 4)
    assert (expected[1, 0] > -torch.inf).sum() == 4
    torch.testing.assert_close(found, expected.half().float(), rtol=0, atol=0)


@pytest.mark.parametrize('value', ['0', '10', '-1'])
def test_a_topk_that_is_none(value, built, tmp_path, monkeypatch, capsys):
    again = (TOOL, built / 'config.py', '--out', tmp_path / 'other', '--topk', value)
    assert call_tool(monkeypatch, *again) == 2
    error = capsys.readouterr().err
    assert f'--topk must be 1 at least and below the 10 classes, got {value}' in error
    assert not (tmp_path / 'other').exists()


def test_a_folder_with_all_is_not_mixed_with_one_of_the_highest(
    built_topk, built, monkeypatch, capsys
):
    for folder, options, change in (
        (built, ['--topk', '3'], 'topk: None -> 3'),
        (built_topk, [], 'topk: 3 -> None'),
        (built_topk, ['--topk', '4'], 'topk: 3 -> 4'),
    ):
        again = (TOOL, folder / 'config.py', '--dtype', 'float32', *options)
        assert call_tool(monkeypatch, *again) == 2
        assert change in capsys.readouterr().err


def test_a_loss_that_cannot_take_last_classes_ends_the_run(
    built_topk, tmp_path, monkeypatch, capsys
):
    """Before its first step, in one sentence, and not with a NaN."""
    monkeypatch.chdir(tmp_path)
    Path('config.py').write_text(
        f"""
_base_ = ['{built_topk}/config.py']
model = dict(distiller=dict(
    distill_losses=dict(_delete_=True, loss_x=dict(type='mmkendall.PearsonLoss')),
    loss_forward_mappings=dict(_delete_=True, loss_x=dict(
        preds_S=dict(from_student=True, recorder='fc'),
        preds_T=dict(from_student=False, recorder='fc')))))
"""
    )
    assert call_tool(monkeypatch, 'train.py', 'config.py') == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(
        r'distill_losses\.loss_x, a PearsonLoss, cannot take a teacher who says minus infinity of '
        r'classes that are last, as preds_T does: put a mmkendall\.OrderScores before it',
        error,
    )


def test_float16_is_near(built, tmp_path):
    reader = TeacherLogits(built / 'logits')
    made_of = {**reader.meta['made_of'], 'dtype': 'float16'}
    writer = TeacherLogitsWriter(tmp_path / 'half', made_of)
    rows = range(2 * SAMPLES)
    crcs = np.load(built / 'logits' / 'crc.npy')
    writer.append(reader.read(rows, crcs), crcs)
    writer.flush()
    half = TeacherLogits(tmp_path / 'half').read(rows, crcs)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, reader.read(rows, crcs), rtol=2**-11, atol=1e-6)


def test_a_stopped_build_goes_on(built, tmp_path, monkeypatch, capsys):
    """As if it had been stopped after 20 rows; the second run computes the rest, and only that."""
    folder = Path(copy_of(built, tmp_path))
    expected = np.load(folder / 'logits.npy')
    meta = json.loads((folder / 'meta.json').read_text())
    meta['rows_done'] = 20
    (folder / 'meta.json').write_text(json.dumps(meta))
    spoilt = expected.copy()
    spoilt[10:] = -1
    np.save(folder / 'logits.npy', spoilt)
    model, dataset = build(built, **{'model.teacher_logits': str(folder)})
    with pytest.raises(TeacherLogitsError, match=f'is unfinished, 20 of {2 * SAMPLES} rows'):
        losses_and_gradients(model, dataset)

    again = (TOOL, built / 'config.py', '--out', folder)
    assert call_tool(monkeypatch, *again, '--dtype', 'float32') == 0
    out = capsys.readouterr().out
    assert f'20 of {2 * SAMPLES} rows are there already' in out
    assert f'{2 * SAMPLES - 20} rows written' in out
    result = np.load(folder / 'logits.npy')
    assert (result[10:20] == -1).all()
    np.testing.assert_allclose(result[20:], expected[20:], rtol=1e-5, atol=1e-5)

    assert call_tool(monkeypatch, *again) == 2
    assert 'dtype: float32 -> float16' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'model.teacher_dtype': 'bfloat16'}, r'another teacher.* dtype: float32 -> bfloat16'),
        ({'model.teacher_ckpt': 'other.pth'}, r'another teacher\. Different: weights: '),
        ({'model.data_preprocessor.mean': [70.0]}, r'another teacher.* inputs: .*77\.8.*70\.0'),
        (
            {'train_dataloader.dataset.seed': 8},
            r'\d+ of 30 images of this batch are not those that the teacher saw, first sample',
        ),
        ({'train_dataloader.dataset.dataset.split': 'test'}, r'30 of 30 images of this batch'),
        ({'train_dataloader.dataset.num_views': 3}, r'has 120 rows, the dataset asks for row 1'),
        ({'model.teacher_logits': 'gone'}, r"'gone' holds no cached logits: build them with"),
    ],
)
def test_refuses_logits_of_something_else(built, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    write_teacher(tmp_path / 'other.pth', 1)
    with pytest.raises(TeacherLogitsError, match=message):
        losses_and_gradients(*build(built, **options))


def read_all(folder: str, dataset) -> None:
    logits = TeacherLogits(folder)
    for begin in range(0, dataset.num_rows, 30):
        samples = [dataset[row]['data_samples'] for row in range(begin, begin + 30)]
        logits.read([s.view_row for s in samples], [s.view_crc for s in samples])


def change(name, function):
    """Rewrites an array of a cache."""

    def damage(folder: Path) -> None:
        array = np.load(folder / name)
        function(array)
        np.save(folder / name, array)

    return damage


def flip_a_bit(array: np.ndarray) -> None:
    array.view(np.uint8).reshape(-1)[::97] ^= 1


def negate(array: np.ndarray) -> None:
    array *= -1


def zero_half(array: np.ndarray) -> None:
    array[::2] = 0


def ruin_rows(array: np.ndarray) -> None:
    array[5:10] = np.nan


def swap_rows(array: np.ndarray) -> None:
    array[:] = array[::-1].copy()


def change_meta(function):
    def damage(folder: Path) -> None:
        meta = json.loads((folder / 'meta.json').read_text())
        meta = function(meta) or meta
        (folder / 'meta.json').write_text(json.dumps(meta))

    return damage


def cut(name, kept):
    def damage(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:kept])

    return damage


def reshape(name, shape):
    return lambda folder: np.save(folder / name, np.zeros(shape, np.float32))


def swap_places(array: np.ndarray) -> None:
    array[:] = array[..., ::-1].copy()


DAMAGED = r"logits' is damaged: "
NOT_WRITTEN = DAMAGED + r'\d+ of 30 rows of this batch are not what was written, first sample \d+'


@pytest.mark.parametrize(
    ('damage', 'message'),
    {
        'a bit': (change('logits.npy', flip_a_bit), NOT_WRITTEN),
        'negated': (change('logits.npy', negate), NOT_WRITTEN),
        'half zero': (change('logits.npy', zero_half), NOT_WRITTEN),
        'NaN rows': (change('logits.npy', ruin_rows), NOT_WRITTEN),
        'swapped': (change('logits.npy', swap_rows), NOT_WRITTEN),
        'checksums': (change('check.npy', zero_half), NOT_WRITTEN),
        'images': (change('crc.npy', zero_half), 'are not those that the teacher saw'),
        'truncated': (cut('logits.npy', -40), DAMAGED + r'logits\.npy must hold float32 of shape'),
        'no header': (cut('crc.npy', 5), DAMAGED + r'crc\.npy must hold uint32 of shape \(120,\)'),
        'empty': (cut('check.npy', 0), DAMAGED + r'check\.npy must hold'),
        'missing': (lambda folder: (folder / 'crc.npy').unlink(), DAMAGED + r'crc\.npy must hold'),
        'shape': (reshape('logits.npy', (120, 1, 9)), r'\(120, 1, 10\).* got .*\(120, 1, 9\)'),
        'fewer rows': (reshape('logits.npy', (7, 1, 10)), r'got .*\(7, 1, 10\)'),
        'classes': (
            change_meta(lambda meta: meta['made_of'].update(classes=9)),
            DAMAGED + r'meta\.json does not say what was written there',
        ),
        'views': (
            change_meta(lambda meta: meta['made_of'].update(views=3)),
            DAMAGED + r'meta\.json does not say',
        ),
        'odd rows': (
            change_meta(lambda meta: meta['made_of'].update(rows='all')),
            DAMAGED + r'meta\.json does not say',
        ),
        'odd done': (
            change_meta(lambda meta: meta.update(rows_done=None)),
            r'meta\.json does not',
        ),
        'a list': (change_meta(lambda meta: [meta]), DAMAGED + r"meta\.json can't be read"),
        'no format': (change_meta(lambda meta: meta.pop('format') and None), "can't be read"),
        'broken': (cut('meta.json', 50), DAMAGED + r"meta\.json can't be read \(JSONDecodeError"),
        'old': (change_meta(lambda meta: meta.update(format=1)), 'is of format 1, this version'),
    }.values(),
)
def test_damage_is_noticed(damage, message, built, tmp_path):
    """At the first batch that it concerns, in one sentence, whatever was damaged."""
    folder = copy_of(built, tmp_path)
    damage(Path(folder))
    _, dataset = build(built)
    with pytest.raises(TeacherLogitsError, match=message) as raised:
        read_all(folder, dataset)
    assert '\n' not in str(raised.value)


@pytest.mark.parametrize(
    ('damage', 'message'),
    {
        'a bit of a logit': (change('logits.npy', flip_a_bit), NOT_WRITTEN),
        'a bit of an id': (change('ids.npy', flip_a_bit), NOT_WRITTEN),
        'logits negated': (change('logits.npy', negate), NOT_WRITTEN),
        'other classes': (change('ids.npy', swap_places), NOT_WRITTEN),
        'ids of other rows': (change('ids.npy', swap_rows), NOT_WRITTEN),
        'half zero': (change('ids.npy', zero_half), NOT_WRITTEN),
        'truncated': (cut('ids.npy', -40), DAMAGED + r'ids\.npy must hold uint16 of shape'),
        'missing': (lambda folder: (folder / 'ids.npy').unlink(), DAMAGED + r'ids\.npy must hold'),
        'type': (
            lambda folder: np.save(folder / 'ids.npy', np.zeros((120, 1, 3), np.int64)),
            r'uint16 of shape \(120, 1, 3\).* got .*int64',
        ),
        'kept': (
            change_meta(lambda meta: meta['made_of'].update(topk=2)),
            DAMAGED + r'meta\.json does not say what was written there',
        ),
        'all kept': (change_meta(lambda meta: meta['made_of'].pop('topk') and None), DAMAGED),
        'odd kept': (change_meta(lambda meta: meta['made_of'].update(topk='three')), DAMAGED),
        'format of all': (change_meta(lambda meta: meta.update(format=2)), DAMAGED + 'meta'),
        'newer': (
            change_meta(lambda meta: meta.update(format=4)),
            'of format 4, .* reads 2 and 3',
        ),
    }.values(),
)
def test_damage_of_the_highest_is_noticed(damage, message, built_topk, tmp_path):
    folder = copy_of(built_topk, tmp_path)
    damage(Path(folder))
    _, dataset = build(built_topk)
    with pytest.raises(TeacherLogitsError, match=message) as raised:
        read_all(folder, dataset)
    assert '\n' not in str(raised.value)


def test_one_bit_in_one_row(built, tmp_path):
    folder = Path(copy_of(built, tmp_path))
    crcs = np.load(folder / 'crc.npy')
    with open(folder / 'logits.npy', 'r+b') as file:
        file.seek(-1, 2)
        last = file.read(1)[0]
        file.seek(-1, 2)
        file.write(bytes([last ^ 64]))
    reader = TeacherLogits(folder)
    rows = np.arange(len(crcs))
    reader.read(rows[:-1], crcs[:-1])
    with pytest.raises(TeacherLogitsError, match=r'1 of 1 rows .* first sample 59, view 1'):
        reader.read(rows[-1:], crcs[-1:])


MADE_OF = dict(
    rows=4000, samples=4000, views=1, seed=0, classes=100, dtype='float32',
    teachers={'weights': ['a']},
)  # fmt: skip


def test_a_full_disk_is_one_sentence(tmp_path):
    """A limit on the size of files, as a full disk gives it: at the start, or as it is written."""
    resource = pytest.importorskip('resource')
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    soft = resource.RLIMIT_FSIZE, (1_000_000, limit[1])
    message = r'cannot be written: .* needs 1\.6 MB in all, and 0 of 4000 rows are safe'
    resource.setrlimit(*soft)
    try:
        with pytest.raises(TeacherLogitsError, match=message):
            TeacherLogitsWriter(tmp_path / 'logits', MADE_OF)
        assert [path.name for path in (tmp_path / 'logits').iterdir()] == ['lock']
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)

    writer = TeacherLogitsWriter(tmp_path / 'logits', MADE_OF)
    writer.append(torch.zeros(1000, 1, 100), range(1000))
    writer.flush()
    resource.setrlimit(*soft)
    try:
        with pytest.raises(TeacherLogitsError, match=r'1000 of 4000 rows are safe\. Make room'):
            writer.append(torch.zeros(3000, 1, 100), range(3000))
        writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert TeacherLogitsWriter(tmp_path / 'logits', MADE_OF).rows_done == 1000


HOLD = """
import sys, time
from mmkendall.models.algorithms.teacher_logits import TeacherLogitsWriter
writer = TeacherLogitsWriter(sys.argv[1], {made_of})
print('held', flush=True)
time.sleep(600)
"""


def test_two_builders_of_one_folder(tmp_path):
    """The second ends with a sentence; a builder that was killed leaves no lock behind."""
    code = HOLD.format(made_of=MADE_OF)
    first = subprocess.Popen([sys.executable, '-c', code, tmp_path], stdout=subprocess.PIPE)
    try:
        assert first.stdout.readline() == b'held\n'
        message = f'is being written by process {first.pid} on .*: wait until it is done, or name'
        with pytest.raises(TeacherLogitsError, match=message):
            TeacherLogitsWriter(tmp_path, MADE_OF)
    finally:
        first.kill()
        first.wait()
    TeacherLogitsWriter(tmp_path, MADE_OF).close()


def test_classes_of_the_data_set_and_of_the_teacher(built, tmp_path, monkeypatch, capsys):
    made_of = TeacherLogits(built / 'logits').meta['made_of']
    assert made_of['dataset_classes'] == list('0123456789')
    turned = {'train_dataloader.dataset.dataset.metainfo': dict(classes=tuple('9876543210'))}
    with pytest.raises(TeacherLogitsError, match=r'whose classes are 0, 1, 2, .* another order'):
        losses_and_gradients(*build(built, **turned))

    monkeypatch.setattr(LogitDistill, 'teacher_classes', [tuple('9876543210')], raising=False)
    assert call_tool(monkeypatch, TOOL, built / 'config.py', '--out', tmp_path / 'other') == 2
    assert re.search(
        r"teacher 0's checkpoint and the data set number the classes differently: '9' is class 0 "
        r'of the first and class 9 of the second',
        capsys.readouterr().err,
    )


def test_rows_that_repeat_are_noticed(built):
    """Two FixedViews side by side count their rows alike; the images tell them apart."""
    cfg = Config.fromfile(str(built / 'config.py'))
    part = cfg.train_dataloader.dataset
    other = copy.deepcopy(part)
    other.dataset.indices = -SAMPLES
    joined = DATASETS.build(dict(type='ConcatDataset', datasets=[part, other]))
    model, _ = build(built)
    rows = [0, SAMPLES]  # The first sample of each part.
    batch = pseudo_collate([joined[row] for row in rows])
    assert [sample.view_row for sample in batch['data_samples']] == [0, 0]
    with pytest.raises(TeacherLogitsError, match=r'1 of 2 images .* join the data sets inside'):
        model(**model.data_preprocessor(batch, True), mode='loss')


def test_a_teacher_that_was_given_is_not_initialised_again(built):
    """A model in memory, as mmpretrain.get_model gives it, alone and in a list."""
    tool = load_tool(TOOL)
    for several in (False, True):
        cfg = Config.fromfile(str(built / 'config.py'))
        torch.manual_seed(3)
        teacher = MODELS.build(cfg.model.teacher)
        before = weights_checksum(teacher)
        cfg.model.teacher_ckpt = None
        cfg.model.teacher = [dict(model=teacher)] if several else teacher
        assert tool.build_model(cfg).teacher_checksums() == [before]


def test_other_names_of_the_types(built):
    cfg = Config.fromfile(str(built / 'config.py'))
    assert is_kind('mmkendall.LogitDistill', MODELS, LogitDistill, cfg)
    assert is_kind(LogitDistill, MODELS, LogitDistill, cfg)
    cfg.default_scope = 'mmkendall'
    assert is_kind('LogitDistill', MODELS, LogitDistill, cfg)
    for other in ('mmrazor.SingleTeacherDistill', 'NoSuchThing', None, int):
        assert not is_kind(other, MODELS, LogitDistill, cfg)


def test_refuses_configs_that_cannot_be_cached(built):
    mixup = dict(augments=dict(type='Mixup', alpha=0.2))
    options = {'model.data_preprocessor.batch_augments': mixup}
    with pytest.raises(ValueError, match='batch augmentation'):
        build(built, **options)
    both = dict(from_student=False, recorder='map')
    options = {
        'model.distiller.teacher_recorders.map': dict(type='ModuleOutputs', source='neck'),
        'model.distiller.loss_forward_mappings.loss_kl.preds_T': both,
    }
    with pytest.raises(ValueError, match=r'exactly one teacher recorder.* they read fc, map'):
        build(built, **options)
    model, _ = build(built)
    cfg = Config.fromfile(str(built / 'config.py'))
    plain = DATASETS.build(cfg.train_dataloader.dataset.dataset)
    data = model.data_preprocessor(pseudo_collate([plain[0]]), True)
    with pytest.raises(RuntimeError, match=r'training dataset of type mmkendall\.FixedViews'):
        model(**data, mode='loss')


def test_writer_refuses_what_float16_cannot_hold(tmp_path):
    made_of = dict(
        rows=2, samples=2, views=1, seed=0, classes=3, dtype='float16', teachers={'weights': ['a']}
    )
    writer = TeacherLogitsWriter(tmp_path / 'logits', made_of)
    with pytest.raises(TeacherLogitsError, match='not finite as float16'):
        writer.append(torch.full((1, 1, 3), 1e5), [0])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--batch-size', '0'], '--batch-size must be 1 or more, got 0'),
        (['--workers', '-1'], '--workers must be 0 or more, got -1'),
        (['--cfg-options', 'model.type=mmrazor.SingleTeacherDistill'], 'model.type must be'),
        (['--cfg-options', 'model.teacher_logits=None'], 'must name a folder, got None'),
        (
            ['--cfg-options', 'train_dataloader.dataset.type=mmkendall.Digits'],
            "must be 'mmkendall.FixedViews'",
        ),
        (['--cfg-options', 'model.teacher_ckpt=gone.pth'], "'gone.pth' does not exist"),
    ],
)
def test_tool_refuses(built, options, message, monkeypatch, capsys):
    arguments = [built / 'config.py', *options]
    assert call_tool(monkeypatch, TOOL, *arguments) == 2
    assert message in capsys.readouterr().err


def test_trains_validates_and_exports_the_student(built, tmp_path, monkeypatch):
    """The whole way: train from the cache, take the student out, test it by its own config."""
    work_dir = tmp_path / 'run'
    monkeypatch.chdir(tmp_path)
    assert call_tool(monkeypatch, 'train.py', built / 'config.py', '--work-dir', work_dir) == 0
    scalars = next(work_dir.glob('*/vis_data/scalars.json')).read_text().splitlines()
    last = [json.loads(line) for line in scalars if 'accuracy/top1' in line][-1]
    assert 'teacher.accuracy/top1' in last

    checkpoint = load(work_dir / 'epoch_2.pth')
    assert not [name for name in checkpoint['state_dict'] if name.startswith('teacher')]

    convert = ('model_converters/student_from_distill.py', work_dir / 'epoch_2.pth', 'student.pth')
    assert call_tool(monkeypatch, *convert) == 0
    student = Config.fromfile(str(DIGITS / 'resnet18-w4_1xb64_digits.py'))
    test = ('test.py', DIGITS / 'resnet18-w4_1xb64_digits.py', 'student.pth')
    options = ('--out', 'metrics.json', '--cfg-options', 'test_dataloader.dataset.indices=100')
    assert call_tool(monkeypatch, *test, *options) == 0
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    assert metrics['accuracy/top1'] == pytest.approx(last['accuracy/top1'])
    exported = load(tmp_path / 'student.pth')
    assert set(exported) == {'state_dict', 'meta'}
    MODELS.build(student.model).load_state_dict(exported['state_dict'], strict=True)

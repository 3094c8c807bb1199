"""Cached teacher logits, from the command that builds them to the losses that read them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, DefaultScope
from mmengine.runner import save_checkpoint
from torch.utils.data import DataLoader

from mmkendall.models.algorithms.teacher_logits import (
    TeacherLogits,
    TeacherLogitsError,
    TeacherLogitsWriter,
)

from ..conftest import REPOSITORY, call_tool, run_tool

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

    checkpoint = torch.load(work_dir / 'epoch_2.pth', weights_only=False)
    assert not [name for name in checkpoint['state_dict'] if name.startswith('teacher')]

    convert = ('model_converters/student_from_distill.py', work_dir / 'epoch_2.pth', 'student.pth')
    assert call_tool(monkeypatch, *convert) == 0
    student = Config.fromfile(str(DIGITS / 'resnet18-w4_1xb64_digits.py'))
    test = ('test.py', DIGITS / 'resnet18-w4_1xb64_digits.py', 'student.pth')
    options = ('--out', 'metrics.json', '--cfg-options', 'test_dataloader.dataset.indices=100')
    assert call_tool(monkeypatch, *test, *options) == 0
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    assert metrics['accuracy/top1'] == pytest.approx(last['accuracy/top1'])
    exported = torch.load(tmp_path / 'student.pth')
    assert set(exported) == {'state_dict', 'meta'}
    MODELS.build(student.model).load_state_dict(exported['state_dict'], strict=True)

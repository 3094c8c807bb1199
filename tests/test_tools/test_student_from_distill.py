"""What comes out of a distillation checkpoint loads into the plain student."""

from __future__ import annotations

import json
import re

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from mmkendall.compat.safe_loading import load
from mmkendall.engine.hooks import StudentCheckpointHook
from mmkendall.engine.hooks import student_checkpoint as hook_module

from ..conftest import call_tool
from .conftest import STUDENT

TOOL = 'model_converters/export_student.py'
OLD_TOOL = 'model_converters/student_from_distill.py'


def top1(path) -> float:
    return json.loads(path.read_text())['accuracy/top1']


def validated(run) -> float:
    """What the last validation measured, of the averages."""
    lines = next(run.glob('*/vis_data/scalars.json')).read_text().splitlines()
    return [json.loads(line) for line in lines if 'accuracy/top1' in line][-1]['accuracy/top1']


def test_the_averages_are_those_that_the_validation_measured(finished_run, tmp_path, monkeypatch):
    """On a checkpoint of mmengine's Runner and EMAHook, which swap the two kinds of weights."""
    monkeypatch.chdir(tmp_path)
    checkpoint = finished_run / 'run' / 'epoch_3.pth'
    whole = load(checkpoint)
    raw = {
        name.removeprefix('module.architecture.'): value
        for name, value in whole['ema_state_dict'].items()
        if name.startswith('module.architecture.')
    }
    # mmengine's optimizer steps on the weights as trained: its Runner resumes with these.
    for tool, options, is_raw in (
        (TOOL, [], False),
        (TOOL, ['--raw'], True),
        (OLD_TOOL, ['--ema'], False),
        (OLD_TOOL, [], True),
    ):
        assert call_tool(monkeypatch, tool, checkpoint, 'out.pth', *options) == 0
        state = load('out.pth')['state_dict']
        assert set(state) == set(raw)
        same = all(torch.equal(value, raw[name]) for name, value in state.items())
        assert same == is_raw, (tool, options)
        assert call_tool(monkeypatch, 'test.py', STUDENT, 'out.pth', '--out', 'metrics.json',
                         '--cfg-options', 'test_dataloader.dataset.indices=100') == 0  # fmt: skip
        if not is_raw:
            assert top1(tmp_path / 'metrics.json') == pytest.approx(
                validated(finished_run / 'run')
            )


def test_the_weights_as_trained_are_those_that_a_resumed_run_goes_on_from(
    finished_run, tmp_path, monkeypatch
):
    """mmengine itself says which are which: the model of a Runner that resumed."""
    from mmengine.runner import Runner

    cfg = Config.fromfile(str(finished_run / 'config.py'))
    cfg.update(work_dir=str(tmp_path), load_from=str(finished_run / 'run' / 'epoch_3.pth'))
    cfg.resume = True
    runner = Runner.from_cfg(cfg)
    runner.call_hook('before_run')
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.param_schedulers = None
    runner.load_checkpoint(cfg.load_from)
    student = hook_module.student_checkpoint(load(cfg.load_from), raw=True)['state_dict']
    for name, value in runner.model.architecture.state_dict().items():
        assert torch.equal(value, student[name]), name


def test_the_hook_saves_what_mmpretrain_loads(finished_run, monkeypatch):
    from mmpretrain import get_model

    run = finished_run / 'run'
    names = {path.name for path in run.glob('*.pth')}
    assert {path.name for path in (run / 'student').iterdir()} == names
    assert len(names) == 3  # Two kept and the best one.
    best = next(run.glob('best_*.pth'))
    path = str(run / 'student' / best.name)
    model = get_model(str(STUDENT), pretrained=path)
    assert model._dataset_meta['classes'] == tuple('0123456789')
    state = load(best)['state_dict']
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[f'architecture.{name}']), name
    meta = load(path)['meta']
    assert 'cfg' not in meta
    assert meta['epoch'] == load(best)['meta']['epoch']
    options = ('--cfg-options', 'test_dataloader.dataset.indices=100')
    assert call_tool(monkeypatch, 'test.py', STUDENT, path, *options) == 0


@pytest.mark.parametrize(
    ('save', 'expected'), [('best', {'best.pth'}), ('last', {'epoch_2.pth'}), ('all', None)]
)
def test_which_checkpoints_the_hook_follows(save, expected, finished_run, tmp_path):
    """And what it does as the CheckpointHook removes a checkpoint, and on a disk that is full."""
    import shutil
    from types import SimpleNamespace

    info = {}
    runner = SimpleNamespace(message_hub=SimpleNamespace(runtime_info=info))
    hook = StudentCheckpointHook(save=save)
    for name, key in (('epoch_1', 'last_ckpt'), ('best', 'best_ckpt'), ('epoch_2', 'last_ckpt')):
        info[key] = str(tmp_path / f'{name}.pth')
        shutil.copy(finished_run / 'run' / 'epoch_3.pth', info[key])
        hook.after_train_epoch(runner)
    (tmp_path / 'epoch_1.pth').unlink()
    hook.after_train(runner)
    found = {path.name for path in (tmp_path / 'student').iterdir()}
    assert found == (expected or {'best.pth', 'epoch_2.pth'})


def test_a_full_disk_does_not_end_the_training(finished_run, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise RuntimeError('[enforce fail at inline_container.cc:603] . unexpected pos 64 vs 0')

    hook = StudentCheckpointHook()
    monkeypatch.setattr(hook_module.torch, 'save', full)
    monkeypatch.setattr(hook, 'folder', str(tmp_path))
    hook._save(str(finished_run / 'run' / 'epoch_3.pth'))
    assert list(tmp_path.iterdir()) == []


def test_the_hook_refuses_what_it_cannot_do(tmp_path):
    from types import SimpleNamespace

    with pytest.raises(ValueError, match=r"save must be one of all, best, last, got 'first'"):
        StudentCheckpointHook(save='first')
    plain = MODELS.build(Config.fromfile(str(STUDENT)).model)
    with pytest.raises(TypeError, match=r'needs a model that distils.* got ImageClassifier'):
        StudentCheckpointHook().before_train(SimpleNamespace(model=plain))


def test_onnx(finished_run, tmp_path, monkeypatch, capsys):
    pytest.importorskip('onnx', reason='the extra export is not installed')
    onnxruntime = pytest.importorskip('onnxruntime', reason='the extra export is not installed')
    monkeypatch.chdir(tmp_path)
    checkpoint = finished_run / 'run' / 'epoch_3.pth'
    options = ('--onnx', 'student.onnx', '--input-shape', '1', '8', '8', '--config')
    for config in (STUDENT, finished_run / 'config.py'):
        assert call_tool(monkeypatch, TOOL, checkpoint, 'student.pth', *options, config) == 0
        session = onnxruntime.InferenceSession('student.onnx')
        images = torch.randn(5, 1, 8, 8)
        model = MODELS.build(Config.fromfile(str(STUDENT)).model).eval()
        model.load_state_dict(load('student.pth')['state_dict'])
        with torch.no_grad():
            expected = model(images, mode='tensor')
        (logits,) = session.run(None, {'images': images.numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), expected, rtol=1e-4, atol=1e-4)
        (tmp_path / 'student.onnx').unlink()

    other = STUDENT.with_name('resnet18-w16_1xb64_digits.py')
    assert call_tool(monkeypatch, TOOL, checkpoint, 'student.pth', *options, other) == 2
    assert 'builds another network' in capsys.readouterr().err
    monkeypatch.setattr(onnxruntime.InferenceSession, 'run', lambda self, names, feed: [
        torch.ones(len(feed['images']), 10).numpy()])  # fmt: skip
    assert call_tool(monkeypatch, TOOL, checkpoint, 'student.pth', *options, STUDENT) == 2
    assert 'ONNX Runtime and torch differ by' in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {'student.pth'}


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['gone.pth', 'out.pth'], "checkpoint 'gone.pth' does not exist"),
        (['plain.pth', 'out.pth'], "no weights under 'architecture.'.* it has backbone, head"),
        (['plain.pth', './plain.pth'], "out must be another file than checkpoint, got './plain"),
        (['torn.pth', 'out.pth'], "'torn.pth' can't be read: it is empty, torn"),
        (['plain.pth', 'none/out.pth'], "there is no folder 'none'"),
    ],
)
@pytest.mark.parametrize('tool', [TOOL, OLD_TOOL])
def test_refuses(tool, arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    plain = {'backbone.conv1.weight': torch.ones(1), 'head.fc.weight': torch.ones(1)}
    torch.save({'state_dict': plain}, 'plain.pth')
    (tmp_path / 'torn.pth').write_bytes((tmp_path / 'plain.pth').read_bytes()[:200])
    assert call_tool(monkeypatch, tool, *arguments) == 2
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert error.count('\n') == 1
    assert not (tmp_path / 'out.pth').exists()


@pytest.mark.parametrize(
    ('tool', 'options', 'message'),
    [
        (OLD_TOOL, ['--ema'], '--ema: the checkpoint has no ema_state_dict'),
        (TOOL, ['--raw'], 'has no ema_state_dict: no EMAHook took part'),
        (TOOL, ['--onnx', 'a.onnx'], '--onnx needs --config STUDENT_CONFIG and --input-shape'),
    ],
)
def test_refuses_options(tool, options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save({'state_dict': {'architecture.w': torch.ones(1)}}, 'in.pth')
    assert call_tool(monkeypatch, tool, 'in.pth', 'out.pth', *options) == 2
    assert message in capsys.readouterr().err

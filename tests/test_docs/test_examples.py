"""Examples in docstrings and pages do what stands beside them."""

from __future__ import annotations

import doctest
import importlib

import pytest
import torch
from mmengine.config import Config

from mmkendall.engine.distill_config import check_distill_config, load_config
from mmkendall.functional.backends import BACKENDS

from ..conftest import REPOSITORY, call_tool, load_tool
from .pages import blocks, commands, write_files

PAGES = sorted(path for path in (REPOSITORY / 'docs').glob('*.md') if '>>> ' in path.read_text())


def modules_with_examples() -> list[str]:
    files = sorted((REPOSITORY / 'mmkendall').rglob('*.py'))
    names = [
        path.relative_to(REPOSITORY).with_suffix('') for path in files if '>>>' in path.read_text()
    ]
    return ['.'.join(name.parts) for name in names]


@pytest.mark.parametrize('name', modules_with_examples())
def test_docstrings(name):
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried
    assert not failed


@pytest.mark.parametrize('page', PAGES, ids=lambda path: path.stem)
def test_pages(page):
    examples = ''.join(text for _, text in blocks(page.name, 'python') if '>>> ' in text)
    parsed = doctest.DocTestParser().get_doctest(examples, {}, page.name, str(page), 0)
    failed, tried = doctest.DocTestRunner().run(parsed)
    assert tried
    assert not failed


def test_readme(tmp_path):
    """Its config is one that can be trained, and its function runs."""
    (_, config), (_, function) = blocks('../README.md', 'python')
    (tmp_path / 'config.py').write_text(config)
    cfg = load_config(str(tmp_path / 'config.py'))
    check_distill_config(cfg)
    weights = [loss.loss_weight for loss in cfg.model.distiller.distill_losses.values()]
    assert weights == [3, 3]
    names = {}
    exec(function, names)
    assert names['student'].grad.abs().sum() > 0


def test_numbers_of_the_figures():
    """The page repeats what the script prints."""
    script = load_tool('../docs/figures/draw.py')
    printed = script.report(script.all_shares())
    assert printed in [text.rstrip() for _, text in blocks('what_the_loss_is.md', 'text')]


def test_own_loss(tmp_path, monkeypatch):
    assert write_files('own_loss.md', tmp_path) == ['my_losses.py', 'with_my_loss.py']
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    ((path, program, tool, *options),) = commands('own_loss.md')
    assert (path, program) == ('PYTHONPATH=.', 'mmkendall')
    assert call_tool(monkeypatch, f'{tool}.py', *options) == 0

    loss = importlib.import_module('my_losses').correlation_loss
    preds_S, preds_T = torch.randn(2, 4, 6, dtype=torch.float64)
    centred = [rows - rows.mean(dim=1, keepdim=True) for rows in (preds_S, preds_T)]
    norms = [rows.norm(dim=1) for rows in centred]
    expected = 1 - (centred[0] * centred[1]).sum(dim=1) / (norms[0] * norms[1])
    assert loss(preds_S, preds_T).item() == pytest.approx(expected.mean().item(), abs=1e-6)
    assert loss(preds_S.half(), preds_T.half()).isfinite()
    empty = torch.zeros(0, 6, requires_grad=True)
    loss(empty, empty.detach()).backward()
    assert empty.grad.shape == (0, 6)


def test_own_backend(tmp_path, monkeypatch):
    names = write_files('own_backend.md', tmp_path)
    assert names == ['one_row.py', 'try_one_row.py', 'test_one_row.py']
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(REPOSITORY))
    try:
        importlib.import_module('try_one_row')
        one_row = importlib.import_module('one_row')
    finally:
        BACKENDS.pop('one_row', None)
    importlib.import_module('test_one_row').test_equals_the_definition()

    rows = torch.randn(2, 3, 5)
    rows[0, 1, 2] = float('nan')
    losses, grad = one_row.rank_loss(*rows, 1.0, 'product', True)
    assert losses.isnan().tolist() == [False, True, False]
    assert grad.isnan().all(dim=1).tolist() == [False, True, False]
    mean, mean_grad = one_row.rank_loss(*rows[:, ::2], 1.0, 'product', True, average=True)
    torch.testing.assert_close(mean, losses[::2].mean())
    torch.testing.assert_close(mean_grad, grad[::2] / 2)
    assert one_row.unavailable(torch.device('cpu'), torch.float32, 5, 'hard_teacher')


def test_names_of_mdistiller():
    """The page names each network that the converter knows, and options that our configs have."""
    page = (REPOSITORY / 'docs/from_mdistiller.md').read_text()
    converter = load_tool('model_converters/mdistiller_to_mmkendall.py')
    networks = page.partition('## The command')[0]
    assert [name for name in converter.ARCHITECTURES if f'`{name}`' not in networks] == []
    folder = REPOSITORY / 'configs/cifar100'
    for method, options in (
        ('kd', dict(loss_kl=('tau', 'loss_weight'))),
        ('dkd', dict(loss_dkd=('temperature', 'alpha', 'beta', 'warmup_epochs'))),
    ):
        cfg = Config.fromfile(
            str(folder / method / f'{method}_logits_vgg13_vgg8_1xb64_cifar100.py')
        )
        for loss, keys in options.items():
            for key in keys:
                assert f'`LOSS.{loss}.{key}`' in page
                assert key in cfg.model.distiller.distill_losses[loss]
        for key in (
            'model.architecture.head.loss.loss_weight', 'optim_wrapper.optimizer.lr',
            'optim_wrapper.optimizer.weight_decay', 'param_scheduler.milestones',
            'param_scheduler.gamma', 'train_cfg.max_epochs', 'train_dataloader.batch_size',
            'default_hooks.checkpoint.interval',
        ):  # fmt: skip
            assert f'`{key}`' in page
            value = cfg
            for part in key.split('.'):
                value = value[part]

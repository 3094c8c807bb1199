"""Each file of examples/ runs, and the loss is in the training that it shows."""

from __future__ import annotations

import importlib.util
import re

import pytest

from mmkendall import compat

from .conftest import REPOSITORY

# What a file needs beside torch and scikit-learn, how many epochs are enough, and the accuracy in
# percent that its networks have by then.
EXAMPLES = {
    'plain_torch': (None, 5, 50),
    'timm_task': ('timm.task', 2, 50),
    'lightning_module': ('pytorch_lightning', 5, 50),
}


def test_no_example_is_left_out():
    assert {path.stem for path in (REPOSITORY / 'examples').glob('*.py')} == set(EXAMPLES)


@pytest.mark.parametrize('name', EXAMPLES)
def test_example(name, capsys, monkeypatch):
    package, epochs, enough = EXAMPLES[name]
    pytest.importorskip('sklearn')
    compat.apply()  # PyPI's torchvision, which both import, does not load beside a CPU's torch.
    if package:
        pytest.importorskip(package, reason=f'{package} is not installed')
    path = REPOSITORY / 'examples' / f'{name}.py'
    assert len(path.read_text().splitlines()) <= 60
    spec = importlib.util.spec_from_file_location(f'example_{name}', path)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    calls = []

    def counted(*args, **kwargs):
        loss = example_loss(*args, **kwargs)
        calls.append(loss.requires_grad)
        return loss

    example_loss = example.kendall_rank_loss
    monkeypatch.setattr(example, 'kendall_rank_loss', counted)
    example.main(epochs)
    found = dict(re.findall(r'^(\w[\w ]+): ([\d.]+)%$', capsys.readouterr().out, re.M))
    assert list(found) == ['teacher', 'student alone', 'student with the ranking loss']
    assert all(enough < float(accuracy) <= 100 for accuracy in found.values())
    # The students begin alike and see the same batches: what differs is the loss, in each step.
    assert calls == [True] * (21 * epochs)
    assert found['student alone'] != found['student with the ranking loss']

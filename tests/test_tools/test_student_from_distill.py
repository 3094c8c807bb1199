"""What comes out of a distillation checkpoint loads into the plain student."""

from __future__ import annotations

import re

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from ..conftest import REPOSITORY, call_tool

TOOL = 'model_converters/student_from_distill.py'
DIGITS = REPOSITORY / 'configs' / 'digits'


def test_students_of_mmrazor_and_their_averages(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = Config.fromfile(str(DIGITS / 'kd_logits_resnet18-w16_resnet18-w4_1xb64_digits.py'))
    cfg.model.teacher_ckpt = None
    state = MODELS.build(cfg.model).state_dict()
    averaged = {f'module.{name}': value + 1 for name, value in state.items()}
    checkpoint = {
        'state_dict': state,
        'ema_state_dict': {'steps': torch.tensor(1), **averaged},
        'optimizer': {'state': {}},
        'meta': {'epoch': 3, 'dataset_meta': {'classes': ('a',)}, 'cfg': 'text'},
    }
    torch.save(checkpoint, tmp_path / 'in.pth')
    student = MODELS.build(Config.fromfile(str(DIGITS / 'resnet18-w4_1xb64_digits.py')).model)
    for options, added in (([], 0), (['--ema'], 1)):
        assert call_tool(monkeypatch, TOOL, 'in.pth', 'out.pth', *options) == 0
        result = torch.load(tmp_path / 'out.pth')
        assert result['meta'] == {'epoch': 3, 'dataset_meta': {'classes': ('a',)}}
        assert student.load_state_dict(result['state_dict'], strict=True)
        for name, value in result['state_dict'].items():
            assert torch.equal(value, state[f'architecture.{name}'] + added), name


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['gone.pth', 'out.pth'], "checkpoint 'gone.pth' does not exist"),
        (['plain.pth', 'out.pth'], "no weights under 'architecture.'.* it has backbone, head"),
        (['plain.pth', 'out.pth', '--ema'], '--ema: the checkpoint has no ema_state_dict'),
        (['plain.pth', './plain.pth'], "out must be another file than checkpoint, got './plain"),
    ],
)
def test_refuses(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    plain = {'backbone.conv1.weight': torch.ones(1), 'head.fc.weight': torch.ones(1)}
    torch.save({'state_dict': plain}, 'plain.pth')
    assert call_tool(monkeypatch, TOOL, *arguments) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / 'out.pth').exists()

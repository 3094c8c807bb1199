"""Each mend: what it was for works, and applying it again changes nothing."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmkendall import compat


def test_apply_is_idempotent():
    first = compat.apply()
    finders = list(sys.meta_path)
    assert compat.apply() == first
    assert list(sys.meta_path) == finders
    assert [status.name for status in first] == list(compat.MENDS)
    assert not [status for status in first if status.state == 'failed']


def test_importing_the_package_applies_nothing():
    code = (
        'import sys, mmkendall; sys.exit(bool({"mmengine", "mmkendall.compat"} & {*sys.modules}))'
    )
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0


def test_report():
    done = subprocess.run(
        [sys.executable, '-m', 'mmkendall.compat'], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert torch.__version__ in done.stdout
    for name in compat.MENDS:
        assert f'{name}: ' in done.stdout


def test_a_failing_mend_is_reported(monkeypatch):
    from mmkendall.compat import pkg_resources_missing

    monkeypatch.setattr(pkg_resources_missing, 'is_broken', lambda: True)
    (failed,) = (status for status in compat.apply() if status.state == 'failed')
    assert failed.name == 'pkg_resources_missing'
    assert 'setuptools<82' in failed.detail


def test_numpy_2_beside_a_torch_for_numpy_1_is_reported(monkeypatch):
    from mmkendall.compat import numpy_too_new

    for torch_version, numpy_version, broken in (
        ('1.13.1', '2.2.6', True),
        ('2.2.2+cpu', '2.0.0', True),
        ('2.2.2', '1.26.4', False),
        ('2.3.0', '2.0.0', False),
        ('2.10.0', '2.5.5', False),
    ):
        versions = {'torch': torch_version, 'numpy': numpy_version}
        monkeypatch.setattr(numpy_too_new, 'version', versions.get)
        assert numpy_too_new.is_broken() is broken
        (status,) = (status for status in compat.apply() if status.name == 'numpy_too_new')
        assert (status.state == 'failed') is broken
        assert ('numpy<2' in status.detail) is broken


def test_torchvision_imports():
    from torchvision.transforms import functional

    assert functional.hflip(torch.arange(3).view(1, 1, 3)).tolist() == [[[2, 1, 0]]]


@pytest.mark.parametrize(
    'path',
    [
        'mmkendall::_base_/methods/kd.py',
        'mmcls::resnet/resnet18_8xb32_in1k.py',
        'mmrazor::distill/mmcls/kd/kd_logits_resnet34_resnet18_8xb32_in1k.py',
    ],
)
def test_config_paths_of_packages(path, tmp_path):
    config = tmp_path / 'leaf.py'
    config.write_text(f'_base_ = [{path!r}]\n')
    assert 'type' in Config.fromfile(str(config)).model


def test_mmcls_is_mmpretrain():
    import mmcls.models.backbones
    import mmpretrain.models.backbones
    from mmengine.registry import MODELS, DefaultScope

    assert mmcls.models.backbones is mmpretrain.models.backbones
    assert mmpretrain.models.backbones.__spec__.name == 'mmpretrain.models.backbones'
    assert MODELS.get('mmcls.ResNet') is mmpretrain.models.ResNet
    scoped = MODELS.build(dict(type='LeNet5', _scope_='mmcls'))
    assert isinstance(scoped, mmpretrain.models.LeNet5)
    with DefaultScope.overwrite_default_scope('mmcls'):
        assert isinstance(MODELS.build(dict(type='LeNet5')), mmpretrain.models.LeNet5)
    with pytest.raises(ModuleNotFoundError):
        import mmcls.no_such_module


def test_checkpoints_with_history_load(tmp_path):
    from mmengine.logging import HistoryBuffer

    path = tmp_path / 'checkpoint.pth'
    buffer = HistoryBuffer([1.0, 2.0], [1, 1])
    torch.save({'message_hub': {'loss': buffer}, 'scalar': np.float64(3)}, path)
    loaded = torch.load(path)
    assert loaded['message_hub']['loss'].mean() == 1.5
    assert loaded['scalar'] == 3


class Evil:
    """Pickles as a call of getattr for a method that could do harm."""

    def __reduce__(self):
        from mmengine.logging import HistoryBuffer

        return getattr, (HistoryBuffer, '__init__')


@pytest.mark.skipif(
    not hasattr(torch.serialization, 'add_safe_globals'),
    reason='this torch loads whatever a checkpoint holds, by default',
)
@pytest.mark.parametrize(
    ('stranger', 'message'), [(Evil(), 'may not read'), (subprocess.Popen, 'weights_only')]
)
def test_checkpoints_with_strangers_do_not_load(stranger, message, tmp_path):
    torch.save({'stranger': stranger}, tmp_path / 'checkpoint.pth')
    with pytest.raises((pickle.UnpicklingError, ValueError), match=message):
        torch.load(tmp_path / 'checkpoint.pth')


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
def test_negative_hue(backend):
    import mmcv

    image = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    turned = mmcv.adjust_hue(image, -0.2, backend=backend)
    assert turned.dtype == np.uint8
    # -51 of 256 steps are 102 and 103 of the same direction once around.
    around = mmcv.adjust_hue(mmcv.adjust_hue(image, 102.5 / 255, backend), 103.5 / 255, backend)
    assert np.abs(turned.astype(int) - around).mean() < 3
    assert np.abs(turned.astype(int) - image).mean() > 10
    with pytest.raises(ValueError, match='hue_factor'):
        mmcv.adjust_hue(image, -0.6, backend=backend)
    with pytest.raises(TypeError, match='ndarray'):
        mmcv.adjust_hue(image.tolist(), -0.1, backend=backend)


def test_mmrazor_knows_the_torch_version_again():
    import mmrazor
    from mmengine.utils import digit_version
    from mmrazor.models.task_modules.tracer import fx_tracer

    assert mmrazor.digit_version is digit_version
    assert fx_tracer.digit_version is digit_version

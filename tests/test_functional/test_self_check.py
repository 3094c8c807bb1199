"""A compiled backend that fails is left out of ``auto``."""

from __future__ import annotations

import warnings

import pytest
import torch

from mmkendall.functional import kendall_rank_loss
from mmkendall.functional.backends import choose_backend, numba_cpu, self_check, triton_cuda

numba = pytest.importorskip('numba')


@numba.njit
def _does_not_compile(*arguments):
    return arguments + 'no number'


@pytest.fixture(autouse=True)
def _fresh_checks(monkeypatch):
    monkeypatch.setattr(self_check, '_failed', {})


def test_loops_that_do_not_compile(monkeypatch):
    preds = torch.randn(2, 8, 30)
    preds[0].requires_grad_()
    expected = kendall_rank_loss(*preds, 2.0, backend='eager')
    monkeypatch.setattr(numba_cpu, '_loops', lambda surrogate: [_does_not_compile])
    with pytest.warns(RuntimeWarning, match='backend numba is left out on cpu') as caught:
        assert torch.equal(kendall_rank_loss(*preds, 2.0), expected)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert torch.equal(kendall_rank_loss(*preds, 2.0), expected)
    with pytest.raises(numba.TypingError):  # Who names a backend learns why it does not run.
        kendall_rank_loss(*preds, 2.0, backend='numba')


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_loops_of_another_surrogate(dtype, monkeypatch):
    """Code from the disk may be wrong; the first call in a process finds that."""
    loops = numba_cpu._loops('diffkendall')
    monkeypatch.setattr(numba_cpu, '_loops', lambda surrogate: loops)
    monkeypatch.setattr(numba_cpu, 'ready', set())
    preds = torch.randn(2, 8, 30, dtype=dtype)
    wrong = r'the compiled loop dense\.diffkendall_rows is wrong here: its loss is off by'
    with pytest.raises(RuntimeError, match=wrong):
        kendall_rank_loss(*preds, 2.0, backend='numba')
    with pytest.warns(RuntimeWarning, match=wrong):
        loss = kendall_rank_loss(*preds, 2.0)
    assert torch.equal(loss, kendall_rank_loss(*preds, 2.0, backend='eager'))
    monkeypatch.undo()
    torch.testing.assert_close(kendall_rank_loss(*preds, 2.0, backend='numba'), loss)


def test_what_failed_is_chosen_no_more(monkeypatch):
    monkeypatch.setattr(triton_cuda, '_installed', lambda: True)
    device = torch.device('cuda')

    def chosen(num_classes, surrogate='product', steepness=100.0):
        return choose_backend('auto', device, torch.float32, num_classes, surrogate, steepness)

    assert (chosen(100), chosen(1000)) == ('triton', 'triton')
    with pytest.warns(RuntimeWarning, match=r'backend triton \(window\) is left out on cuda'):
        self_check.report_failure(('triton', 'window', 'cuda', 'product'), 'it is wrong')
    assert chosen(1000) == 'eager'
    # Other kernels, and the same one for another surrogate, are another matter.
    assert (chosen(100), chosen(1000, 'hard_teacher')) == ('triton', 'triton')


def test_running_out_of_memory_is_no_fault_of_the_backend(monkeypatch):
    def out_of_memory(*arguments):
        raise MemoryError('no room')

    monkeypatch.setattr(numba_cpu, 'rank_loss', out_of_memory)
    with pytest.raises(MemoryError):
        kendall_rank_loss(*torch.randn(2, 8, 30))
    assert not self_check.failures()


@pytest.mark.parametrize('steepness', [1e-3, 1.0, 100.0, 1e6])
def test_the_small_batch_tries_every_way(steepness):
    student, teacher = self_check.small_batch(steepness)
    assert len(student[2].unique()) < 10
    for preds in (student, teacher):
        reach = steepness * (preds.amax(dim=1) - preds.amin(dim=1))
        assert (reach[0] < 30, reach[1] > 60, reach[3] > 900) == (True, True, True)

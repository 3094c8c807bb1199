"""The exact coefficient against SciPy."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkendall import kendall_tau
from mmkendall.functional.backends import numba_cpu

scipy_stats = pytest.importorskip('scipy.stats')


@pytest.fixture(params=['numba', 'torch'], scope='module', autouse=True)
def way(request):
    """Both ways to compute it, whichever is installed."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == 'torch':
            patch.setattr(numba_cpu, '_import_problem', lambda: 'not wanted here')
        elif numba_cpu._import_problem() is not None:
            pytest.skip('Numba is not installed')
        yield request.param


def scipy_tau(preds_S, preds_T):
    return torch.tensor(
        [
            scipy_stats.kendalltau(s, t, variant='b', nan_policy='propagate').statistic
            # SciPy 1.18 answers in the precision that it is asked in.
            for s, t in zip(preds_S.double().numpy(), preds_T.double().numpy(), strict=True)
        ],
        dtype=torch.float64,
    )


def assert_same(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12, equal_nan=True)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    num_classes=st.sampled_from([2, 3, 8, 63, 64, 65, 129, 1000]),
    levels=st.sampled_from([None, 1, 2, 5, 50]),
    ties=st.sampled_from(['student', 'teacher', 'both']),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 1000),
)
def test_equals_scipy(num_classes, levels, ties, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    preds_S, preds_T = torch.randn(2, 3, num_classes, generator=generator, dtype=dtype)
    if levels is not None:
        if ties in ('student', 'both'):
            preds_S = (preds_S * levels).round()
        if ties in ('teacher', 'both'):
            preds_T = (preds_T * levels).round()
    assert_same(kendall_tau(preds_S, preds_T), scipy_tau(preds_S, preds_T))


def test_zeros_of_either_sign_are_tied():
    preds_S = torch.tensor([[0.0, -0.0, 1.0, -1.0, 0.0]])
    preds_T = torch.tensor([[-0.0, 0.0, 2.0, 1.0, 3.0]])
    assert_same(kendall_tau(preds_S, preds_T), scipy_tau(preds_S, preds_T))


def test_infinities_rank_at_the_ends():
    preds_S = torch.tensor([[math.inf, -math.inf, 1.0, 2.0]])
    preds_T = torch.tensor([[3.0, 0.0, 1.0, math.inf]])
    # Older versions of SciPy take an infinity for a NaN.
    finite = [preds.nan_to_num(posinf=100.0, neginf=-100.0) for preds in (preds_S, preds_T)]
    assert_same(kendall_tau(preds_S, preds_T), scipy_tau(*finite))


def test_undefined_rows_are_nan():
    preds = torch.tensor([[1.0, 1.0, 1.0], [1.0, math.nan, 2.0], [1.0, 2.0, 3.0]])
    other = torch.tensor([[1.0, 2.0, 3.0]]).expand(3, 3)
    for tau in (kendall_tau(preds, other), kendall_tau(other, preds)):
        assert tau.isnan().tolist() == [True, True, False]
    assert kendall_tau(torch.ones(2, 1), torch.ones(2, 1)).isnan().all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_counts_its_own_ties(dtype):
    torch.manual_seed(0)
    preds_S, preds_T = torch.randn(2, 3, 200).to(dtype)
    assert_same(kendall_tau(preds_S, preds_T), scipy_tau(preds_S.float(), preds_T.float()))


def test_integers_are_not_rounded():
    """Ranks and votes; float32 would take 2**24 and 2**24 + 1 for a tie."""
    large = torch.tensor([[2**24, 2**24 + 1, 2**24 + 2, -(2**40)]])
    ranks = torch.tensor([[1, 2, 3, 0]], dtype=torch.uint8)
    assert kendall_tau(large, ranks).item() == 1
    assert kendall_tau(ranks.float(), large).item() == 1
    votes = torch.tensor([[True, True, False, False]])
    assert_same(kendall_tau(votes, ranks), scipy_tau(votes.float(), ranks.float()))


def test_shapes():
    torch.manual_seed(0)
    preds_S, preds_T = torch.randn(2, 2, 5, 3, 4)
    expected = scipy_tau(
        preds_S.movedim(1, -1).reshape(-1, 5), preds_T.movedim(1, -1).reshape(-1, 5)
    )
    assert_same(kendall_tau(preds_S, preds_T), expected.reshape(2, 3, 4))
    assert_same(
        kendall_tau(preds_S.movedim(1, -1), preds_T.movedim(1, -1), dim=-1),
        expected.reshape(2, 3, 4),
    )
    assert kendall_tau(torch.ones(0, 5), torch.ones(0, 5)).shape == (0,)


def test_rejects_what_does_not_fit():
    with pytest.raises(ValueError, match='same shape'):
        kendall_tau(torch.ones(2, 3), torch.ones(2, 4))
    with pytest.raises(TypeError, match=r'torch\.Tensor'):
        kendall_tau([1.0], torch.ones(1, 1))
    with pytest.raises(TypeError, match='numbers that have an order'):
        kendall_tau(torch.ones(1, 3, dtype=torch.complex64), torch.ones(1, 3))
    with pytest.raises(ValueError, match='dimension'):
        kendall_tau(torch.ones(3), torch.ones(3))

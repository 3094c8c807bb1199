"""Normal scores of ranks, against scipy's ranks and quantiles in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.registry import MODELS
from scipy.stats import norm, rankdata

from mmkendall.functional import order_scores, standardize

INF = math.inf
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64]


def definition(row: np.ndarray, spread: float = 1.0) -> np.ndarray:
    # scipy 1.18 ranks float32 in float32, which the upper end does not bear.
    return spread * norm.ppf((rankdata(row.astype(np.float64)) - 0.5) / len(row))


@st.composite
def drawn_scores(draw):
    """Rows with ties, with minus infinity and with none of either, of any type."""
    shape = draw(st.integers(1, 5)), draw(st.sampled_from([1, 2, 3, 10, 257]))
    dtype = draw(st.sampled_from(DTYPES))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    scores = torch.randn(shape, generator=generator, dtype=torch.float64)
    scores = (scores * draw(st.sampled_from([1e-3, 2.0, 1e4]))).to(dtype)
    if draw(st.booleans()):
        scores = (scores.double() / 2).round().to(dtype)
    if dtype.is_floating_point:
        last = torch.rand(shape, generator=generator) < draw(st.sampled_from([0, 0.3, 0.9]))
        scores = scores.masked_fill(last, -INF)
    return scores


@settings(max_examples=200)
@given(scores=drawn_scores(), spread=st.sampled_from([0.5, 1.0, 4.0]))
def test_equals_its_definition(scores, spread):
    found = order_scores(scores, spread)
    double = scores.dtype == torch.float64
    assert found.dtype == (torch.float64 if double else torch.float32)
    expected = [definition(row, spread) for row in scores.double().numpy()]
    tolerance = 1e-12 if double else 2e-6
    np.testing.assert_allclose(found.numpy(), expected, rtol=tolerance, atol=tolerance)


def test_a_hundred_thousand_classes():
    """The highest ranks are as exact in float32 as the lowest, and the mean is 0."""
    scores = torch.randn(1, 100_000)
    found = order_scores(scores)
    np.testing.assert_allclose(found[0].numpy(), definition(scores[0].numpy()), atol=1e-6)
    assert found.amax() == -found.amin()


def test_every_map_that_keeps_the_order_gives_the_same():
    scores = torch.randn(4, 20, dtype=torch.float64)
    expected = order_scores(scores)
    for other in (scores**3, scores.exp(), 1e6 * scores + 3, scores.softmax(dim=1)):
        assert torch.equal(order_scores(other), expected)


@settings(max_examples=60)
@given(
    scores=drawn_scores(),
    of_rows=st.booleans(),
    share=st.sampled_from([0.0, 0.4, 1.0]),
    seed=st.integers(0, 1000),
)
def test_masked_classes_are_left_out(scores, of_rows, share, seed):
    generator = torch.Generator().manual_seed(seed)
    shape = scores.shape if of_rows else scores.shape[1:]
    mask = torch.rand(shape, generator=generator) >= share
    counts = mask.expand(scores.shape)
    if scores.is_floating_point():  # Whatever they hold.
        scores = torch.where(counts, scores, torch.full_like(scores, math.nan))
        scores[~counts & (torch.rand(scores.shape, generator=generator) < 0.5)] = INF
    found = order_scores(scores, 2.0, class_mask=mask)
    for row, kept, scored in zip(scores, counts, found, strict=True):
        assert (scored[~kept] == -INF).all()
        if kept.any():
            expected = definition(row[kept].double().numpy(), 2.0)
            np.testing.assert_allclose(scored[kept].numpy(), expected, rtol=2e-6, atol=2e-6)


def test_other_dimensions():
    scores = torch.randn(2, 7, 3, 4)
    expected = order_scores(scores.movedim(1, -1).reshape(-1, 7)).reshape(2, 3, 4, 7)
    assert torch.equal(order_scores(scores), expected.movedim(-1, 1))
    assert torch.equal(order_scores(scores.movedim(1, -1), dim=-1), expected)
    mask = torch.rand(2, 7, 3, 4) < 0.7
    masked = order_scores(scores, class_mask=mask)
    last = order_scores(scores.movedim(1, -1), dim=3, class_mask=mask.movedim(1, -1))
    assert torch.equal(masked, last.movedim(-1, 1))
    assert torch.equal(order_scores(scores[0, :, 0, 0], dim=0), expected[0, 0, 0])


@pytest.mark.parametrize('value', [math.nan, INF])
def test_what_is_no_score_is_an_error_of_its_row(value):
    scores = torch.randn(3, 6)
    alone = order_scores(scores)
    scores[1, 2] = value
    found = order_scores(scores)
    assert found[1].isnan().all()
    assert torch.equal(found[::2], alone[::2])


def test_no_rows_no_classes_and_constant_rows():
    assert order_scores(torch.zeros(0, 5)).shape == (0, 5)
    assert order_scores(torch.zeros(3, 0)).shape == (3, 0)
    for row in (torch.full((2, 7), 0.1), torch.full((2, 7), -INF), torch.zeros(2, 1)):
        assert not order_scores(row).any()


def test_ranks_have_no_gradient():
    assert not order_scores(torch.randn(2, 5, requires_grad=True)).requires_grad


@pytest.mark.skipif(not hasattr(torch, 'func'), reason='torch.func came with torch 2.0')
def test_under_vmap():
    scores = torch.randn(3, 4, 9)
    scores[0, 1, :5] = -INF
    scores[2] = scores[2].round()
    mask = torch.rand(3, 9) < 0.7
    assert torch.equal(torch.func.vmap(order_scores)(scores), order_scores(scores, dim=-1))
    masked = torch.func.vmap(lambda rows, counts: order_scores(rows, class_mask=counts))
    expected = order_scores(scores, dim=-1, class_mask=mask[:, None].expand(scores.shape))
    assert torch.equal(masked(scores, mask), expected)


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        (dict(scores=[[1.0]]), TypeError, r'scores must be a torch\.Tensor, got list'),
        (dict(scores=torch.ones(2, 3).bool()), TypeError, r'numbers that have an order.*bool'),
        (dict(scores=torch.ones(2, 3) * 1j), TypeError, r'numbers that have an order.*complex'),
        (dict(spread=0.0), ValueError, r'spread must be positive and finite, got 0\.0'),
        (dict(spread=True), ValueError, 'spread must be positive and finite, got True'),
        (dict(dim=2), ValueError, r'dim=2 is not a dimension of scores of shape \(2, 3\)'),
        (dict(class_mask=torch.ones(3)), TypeError, 'class_mask must be a bool tensor'),
        (dict(class_mask=torch.ones(2).bool()), ValueError, r'class_mask must be of shape \(3,'),
    ],
)
def test_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        order_scores(**{'scores': torch.randn(2, 3), **arguments})


def test_the_connector():
    scores = torch.randn(3, 6, 2).round()
    connector = MODELS.build(dict(type='mmkendall.OrderScores', spread=3.0))
    assert torch.equal(connector(scores), order_scores(scores, 3.0))
    last = MODELS.build(dict(type='mmkendall.OrderScores', dim=-1))
    assert torch.equal(last(scores), order_scores(scores, dim=-1))
    assert not connector.state_dict()
    with pytest.raises(ValueError, match=r'not trained.*the connector of the teacher.s record'):
        connector(scores.requires_grad_())
    with pytest.raises(ValueError, match='spread must be positive'):
        MODELS.build(dict(type='mmkendall.OrderScores', spread=-1.0))


def test_its_deviation_is_what_the_docstring_says():
    found = order_scores(torch.randn(1, 10), 4.0).std(unbiased=False).item()
    assert found == pytest.approx(0.94 * 4, abs=0.02)
    many = order_scores(torch.randn(1, 5000), 4.0)
    assert many.std(unbiased=False).item() == pytest.approx(4, abs=0.01)
    np.testing.assert_allclose(standardize(many), many / 4, atol=1e-2)

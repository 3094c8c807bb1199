"""The ranking loss against stored top-k scores."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkendall import kendall_rank_loss_topk
from mmkendall.functional import SURROGATES

CLASSES = 12


def stored(rows: int, places: int, padding: float, dtype=torch.float32, seed: int = 0):
    """Logits of a student, and the classes and scores that were stored of a teacher."""
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(rows, CLASSES, generator=generator, dtype=torch.float64).to(dtype)
    teacher = torch.randn(rows, CLASSES, generator=generator, dtype=torch.float64)
    # Not sorted, and with a constant of the row, as log-probabilities have it.
    ids = torch.stack([torch.randperm(CLASSES, generator=generator) for _ in range(rows)])
    ids = ids[:, :places]
    scores = teacher.gather(1, ids).sub(teacher.logsumexp(1, keepdim=True)).to(dtype)
    padded = torch.rand(scores.shape, generator=generator) < padding
    ids = torch.where(padded, torch.tensor([-1, 0, 99])[torch.arange(places) % 3], ids)
    return student, ids, scores.masked_fill(padded, -math.inf)


def defined(student, ids, scores, steepness, surrogate):
    """The loss of each row, pair by pair, in float64."""
    losses = []
    for logits, classes, row in zip(student, ids.tolist(), scores.tolist(), strict=True):
        kept = [
            (logits[place].double(), score)
            for place, score in zip(classes, row, strict=True)
            if score != -math.inf
        ]
        total, pairs = logits.double().sum() * 0, 0
        for i, (s_i, t_i) in enumerate(kept):
            for s_j, t_j in kept[:i]:
                delta_S, delta_T = steepness * (s_i - s_j), t_i - t_j
                if surrogate == 'product':
                    total = total + math.tanh(steepness * delta_T) * torch.tanh(delta_S)
                elif surrogate == 'diffkendall':
                    total = total + torch.tanh(delta_T * delta_S)
                elif surrogate == 'hard_teacher':
                    total = total + ((delta_T > 0) - (delta_T < 0)) * torch.tanh(delta_S)
                else:  # No two stored scores are tied.
                    wrong_by = -delta_S if delta_T > 0 else delta_S
                    total = total + 1 - torch.logaddexp(wrong_by, torch.zeros_like(wrong_by))
                pairs += 1
        losses.append(1 - total / pairs if pairs else total)
    return torch.stack(losses)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    rows=st.integers(1, 4),
    places=st.integers(1, CLASSES),
    padding=st.sampled_from([0.0, 0.3, 1.0]),
    steepness=st.sampled_from([0.5, 3.0, 100.0]),
    surrogate=st.sampled_from(SURROGATES),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_equals_the_definition(rows, places, padding, steepness, surrogate, dtype):
    student, ids, scores = stored(rows, places, padding, dtype)
    student.requires_grad_()
    losses = kendall_rank_loss_topk(student, ids, scores, steepness, surrogate, 'none')
    (grad,) = torch.autograd.grad(losses.sum(), student)
    expected = defined(student, ids, scores, steepness, surrogate)
    (true_grad,) = torch.autograd.grad(expected.sum(), student)
    close = dict(rtol=1e-5, atol=2e-6) if dtype == torch.float32 else dict(rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(losses.double(), expected.detach(), **close)
    torch.testing.assert_close(grad, true_grad, **close)


def test_leading_dimensions_masks_and_reductions():
    student, ids, scores = stored(6, 5, 0.3)
    losses = kendall_rank_loss_topk(student, ids, scores, 3.0, reduction='none')
    shaped = [tensor.reshape(2, 3, -1) for tensor in (student, ids, scores)]
    again = kendall_rank_loss_topk(*shaped, 3.0, reduction='none')
    assert torch.equal(again, losses.reshape(2, 3))
    mask = torch.tensor([[True, False, True], [True, True, False]])
    masked = kendall_rank_loss_topk(*shaped, 3.0, reduction='sum', mask=mask)
    torch.testing.assert_close(masked, losses[mask.reshape(-1)].sum())
    with_pairs = (scores > -math.inf).sum(1) > 1
    mean = kendall_rank_loss_topk(student, ids, scores, 3.0)
    torch.testing.assert_close(mean, losses[with_pairs].mean())


def test_half_precision_makes_no_ties():
    """A student in bfloat16 does not round the teacher's scores."""
    student, ids, _ = stored(3, 6, 0.0, torch.bfloat16)
    scores = 100 + torch.arange(6).expand(3, 6) / 100
    result = kendall_rank_loss_topk(student, ids, scores, 10.0)
    assert result == kendall_rank_loss_topk(student.float(), ids, scores, 10.0)
    assert result != kendall_rank_loss_topk(student, ids, scores.bfloat16(), 10.0)


def test_nothing_stored():
    student, ids, scores = stored(3, 4, 1.0)
    student.requires_grad_()
    loss = kendall_rank_loss_topk(student, ids, scores)
    (grad,) = torch.autograd.grad(loss, student)
    assert loss == 0
    assert not grad.any()


def test_gradients():
    student, ids, scores = stored(3, 6, 0.3, torch.float64)
    student.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda logits: kendall_rank_loss_topk(logits, ids, scores, 2.0), (student,)
    )


def test_transforms_and_compile():
    student, ids, scores = stored(4, 6, 0.3)

    def loss(logits):
        return kendall_rank_loss_topk(logits, ids, scores, 2.0)

    logits = student.clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(logits), logits)
    if hasattr(torch, 'func'):
        torch.testing.assert_close(torch.func.grad(loss)(student), expected)
    if hasattr(torch, 'compile'):
        logits = student.clone().requires_grad_()
        (grad,) = torch.autograd.grad(torch.compile(loss, backend='aot_eager')(logits), logits)
        torch.testing.assert_close(grad, expected)


def with_id(ids, value):
    ids = ids.clone()
    ids[1, 2] = value
    return ids


@pytest.mark.parametrize(
    ('change', 'error', 'message'),
    [
        (lambda s, i, t: (s, with_id(i, 12), t), ValueError, 'ids must be classes of preds_S, 0'),
        (lambda s, i, t: (s, with_id(i, -1), t), ValueError, 'got -1; a place that is padding'),
        (lambda s, i, t: (s, with_id(i, i[1, 0].item()), t), ValueError, 'twice in one row'),
        (lambda s, i, t: (s, i.float(), t), TypeError, 'ids must be int64 or int32'),
        (lambda s, i, t: (s, i, t.long()), TypeError, 'scores must be floating-point'),
        (lambda s, i, t: (s, i[:, :3], t), ValueError, r'ids and scores must be \(..., K\)'),
        (lambda s, i, t: (s[:2], i, t), ValueError, 'the same leading dimensions'),
        (lambda s, i, t: (s, i.tolist(), t), TypeError, 'ids must be a torch.Tensor, got list'),
    ],
)
def test_refusals(change, error, message):
    with pytest.raises(error, match=message):
        kendall_rank_loss_topk(*change(*stored(3, 4, 0.0)))


def test_a_class_that_is_twice_there_is_found_in_any_row():
    """Rows are looked at some at a time; padding may repeat whatever it likes."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.stack([torch.randperm(5000, generator=generator)[:8] for _ in range(200)])
    scores = torch.randn(200, 8, generator=generator)
    scores[7, 2:] = -math.inf
    ids[7, 2:] = ids[7, 0]
    student = torch.randn(200, 5000, generator=generator)
    expected = defined(student, ids, scores, 2.0, 'product').mean()
    loss = kendall_rank_loss_topk(student, ids, scores, 2.0)
    torch.testing.assert_close(loss, expected.float())
    for row, place in ((0, 1), (51, 7), (199, 3)):
        wrong = ids.clone()
        wrong[row, place] = ids[row, 0]
        message = rf'ids has class {ids[row, 0]} twice in one row'
        with pytest.raises(ValueError, match=message):
            kendall_rank_loss_topk(student, wrong, scores, 2.0)

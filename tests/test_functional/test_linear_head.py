"""Losses on the logits of a linear head, chunk by chunk, against the same with whole logits."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from mmkendall.functional import (
    SURROGATES,
    dist_loss,
    kd_loss,
    kendall_rank_loss,
    kendall_rank_loss_topk,
    linear_head_losses,
    linear_kendall_rank_loss,
    listmle_loss,
    pld_loss,
    wttm_loss,
)

ROWS, CLASSES, WIDTH_S, WIDTH_T, STORED = 11, 13, 4, 6, 5


def drawn(dtype=torch.float64, seed=0):
    """The student's hidden states, weight and bias, which are trained, and the teacher's."""
    generator = torch.Generator().manual_seed(seed)
    sizes = (ROWS, WIDTH_S), (CLASSES, WIDTH_S), (CLASSES,)
    sizes += (ROWS, WIDTH_T), (CLASSES, WIDTH_T), (CLASSES,)
    tensors = [torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes]
    tensors = [tensor.to(dtype) for tensor in tensors]
    return [tensor.requires_grad_() for tensor in tensors[:3]], tensors[3:]


def stored(seed=1):
    """Classes and scores that were stored of a teacher, with padding, and a row of one class."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.stack([torch.randperm(CLASSES, generator=generator) for _ in range(ROWS)])
    ids = ids[:, :STORED]
    scores = torch.randn(ROWS, STORED, generator=generator, dtype=torch.float64)
    scores[2, 3:] = -math.inf
    scores[5, 1:] = -math.inf
    return ids, scores


def value_and_gradients(loss, student, scale):
    """A loss, and the gradients of ``scale`` times it, which may hold one number a row."""
    value = loss()
    return value.detach(), *torch.autograd.grad(value, student, scale.expand_as(value))


def assert_equal(found, expected, dtype=torch.float64):
    close = dict(rtol=1e-11, atol=1e-13) if dtype == torch.float64 else dict(rtol=1e-4, atol=2e-6)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other.double(), **close)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
@pytest.mark.parametrize('reduction', ['none', 'mean', 'sum'])
@pytest.mark.parametrize('chunk_size', [1, 4, 11, 256])
def test_equals_whole_logits(dtype, reduction, chunk_size):
    """Also where the gradient that comes in is not 1, or is another for each row."""
    student, (hidden_T, weight_T, bias_T) = drawn(dtype)
    hidden_S, weight_S, bias_S = student
    mask = torch.arange(ROWS) % 3 > 0
    class_mask = torch.arange(CLASSES) != 4
    scale = torch.arange(1.0, ROWS + 1) if reduction == 'none' else torch.tensor(3.0)
    for surrogate in SURROGATES:
        options = dict(steepness=2.0, surrogate=surrogate, reduction=reduction)
        options |= dict(mask=mask, class_mask=class_mask, topk=6, standardize=True)

        def chunked(options=options):
            heads = hidden_S, weight_S, hidden_T, weight_T
            biases = dict(bias_S=bias_S, bias_T=bias_T)
            return linear_kendall_rank_loss(*heads, **biases, **options, chunk_size=chunk_size)

        # The definition, and in float64 throughout.
        exact = [tensor.detach().double().requires_grad_() for tensor in student]
        others = [tensor.double() for tensor in (hidden_T, weight_T, bias_T)]

        def whole(exact=exact, others=others, options=options):
            preds_S, preds_T = F.linear(*exact), F.linear(*others)
            return kendall_rank_loss(preds_S, preds_T, **options, backend='reference')

        expected = value_and_gradients(whole, exact, scale.double())
        assert_equal(value_and_gradients(chunked, student, scale.to(dtype)), expected, dtype)


@pytest.mark.parametrize('reduction', ['none', 'mean', 'sum'])
def test_stored_scores(reduction):
    """With a row of one stored class, which is left out of the mean, and masked rows."""
    student, _ = drawn()
    hidden, weight, bias = student
    ids, scores = stored()
    scale = torch.arange(1.0, ROWS + 1) if reduction == 'none' else torch.tensor(3.0)
    for mask in (None, torch.arange(ROWS) % 4 > 0):
        options = dict(steepness=2.0, reduction=reduction, mask=mask)
        found = value_and_gradients(
            lambda options=options: linear_kendall_rank_loss(
                *(hidden, weight), bias_S=bias, ids=ids, scores=scores, chunk_size=3, **options
            ),
            student,
            scale.double(),
        )
        expected = value_and_gradients(
            lambda options=options: kendall_rank_loss_topk(
                F.linear(hidden, weight, bias), ids, scores, **options, backend='reference'
            ),
            student,
            scale.double(),
        )
        assert_equal(found, expected)


def test_other_losses_and_leading_dimensions():
    student, (hidden_T, weight_T, bias_T) = drawn()
    hidden_S, weight_S, bias_S = student
    labels = torch.arange(ROWS) % CLASSES
    preds_T = F.linear(hidden_T, weight_T, bias_T)
    for loss in (
        lambda s, t, labels: kd_loss(s, t, 4.0, reduction='none'),
        lambda s, t, labels: pld_loss(s, t, labels, reduction='none'),
        lambda s, t, labels: listmle_loss(s, t, topk=3, reduction='none'),
        lambda s, t, labels: wttm_loss(s, t, reduction='none'),
    ):

        def of_rows(preds_S, hidden, labels, loss=loss):
            return loss(preds_S, F.linear(hidden, weight_T, bias_T), labels)

        def chunked(of_rows=of_rows):
            # (11, D) as (1, 11, D), as sequences have it.
            rows = (tensor.unsqueeze(0) for tensor in (hidden_T, labels))
            losses = linear_head_losses(
                *(of_rows, hidden_S.unsqueeze(0), weight_S, *rows), bias=bias_S, chunk_size=4
            )
            assert losses.shape == (1, ROWS)
            return losses.square().mean()

        def whole(loss=loss):
            return loss(F.linear(hidden_S, weight_S, bias_S), preds_T, labels).square().mean()

        one = torch.ones((), dtype=torch.float64)
        found = value_and_gradients(chunked, student, one)
        assert_equal(found, value_and_gradients(whole, student, one))


def test_gradients():
    student, (hidden_T, weight_T, _) = drawn()

    def loss(hidden, weight, bias):
        heads = hidden, weight, hidden_T, weight_T
        options = dict(bias_S=bias, reduction='none', chunk_size=4)
        return linear_kendall_rank_loss(*heads, 1.5, **options)

    assert torch.autograd.gradcheck(loss, student)


def test_a_frozen_head_and_frozen_hidden_states():
    (hidden_S, weight_S, _), (hidden_T, weight_T, _) = drawn()
    heads = [hidden_S, weight_S]
    whole = torch.autograd.grad(
        kendall_rank_loss(F.linear(*heads), F.linear(hidden_T, weight_T), 2.0), heads
    )
    for place in range(2):
        given = [one if at == place else one.detach() for at, one in enumerate(heads)]
        loss = linear_kendall_rank_loss(*given, hidden_T, weight_T, 2.0, chunk_size=4)
        (grad,) = torch.autograd.grad(loss, heads[place])
        torch.testing.assert_close(grad, whole[place])
    with torch.no_grad():
        assert not linear_kendall_rank_loss(*heads, hidden_T, weight_T).requires_grad


def test_rows_that_do_not_count_may_hold_anything():
    (hidden_S, weight_S, _), (hidden_T, weight_T, _) = drawn()
    mask = torch.arange(ROWS) != 3
    loss = linear_kendall_rank_loss(hidden_S, weight_S, hidden_T, weight_T, mask=mask)
    expected = (loss.detach(), *torch.autograd.grad(loss, [hidden_S, weight_S]))
    broken = hidden_S.detach().clone()
    broken[3] = math.nan
    broken.requires_grad_()
    loss = linear_kendall_rank_loss(broken, weight_S, hidden_T, weight_T, mask=mask)
    assert_equal((loss.detach(), *torch.autograd.grad(loss, [broken, weight_S])), expected)


def test_no_rows():
    (hidden_S, weight_S, _), (hidden_T, weight_T, _) = drawn()
    for given in (
        dict(hidden_S=hidden_S[:0], hidden_T=hidden_T[:0]),
        dict(hidden_S=hidden_S, hidden_T=hidden_T, mask=torch.zeros(ROWS, dtype=torch.bool)),
    ):
        loss = linear_kendall_rank_loss(**given, weight_S=weight_S, weight_T=weight_T)
        (grad,) = torch.autograd.grad(loss, weight_S)
        assert loss == 0
        assert not grad.any()


def test_half_precision():
    """The gradient of a weight in bfloat16 is summed over chunks in float32."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(512, WIDTH_S, generator=generator)
    teacher = torch.randn(512, CLASSES, generator=generator)
    weight = torch.randn(CLASSES, WIDTH_S, generator=generator)
    grads = []
    for dtype in (torch.bfloat16, torch.float64):
        # The same numbers in both.
        rows = hidden.bfloat16().to(dtype)
        head = weight.bfloat16().to(dtype).requires_grad_()
        losses = linear_head_losses(
            lambda s, t: kd_loss(s, t.to(s.dtype), 4.0, reduction='none'),
            *(rows, head, teacher),
            chunk_size=2,
        )
        grads += torch.autograd.grad(losses.mean(), head)
    assert grads[0].dtype == torch.bfloat16
    error = (grads[0].double() - grads[1]).norm() / grads[1].norm()
    assert error < 0.01


def test_autocast_does_not_round_the_logits():
    student, (hidden_T, weight_T, bias_T) = drawn(torch.float32)
    hidden_S, weight_S, bias_S = student

    def loss():
        heads = hidden_S, weight_S, hidden_T, weight_T
        return linear_kendall_rank_loss(*heads, 100.0, bias_S=bias_S, bias_T=bias_T)

    expected = loss()
    grads = torch.autograd.grad(expected, student)
    with torch.autocast('cpu', torch.bfloat16):
        found = loss()
        assert_equal((found, *torch.autograd.grad(found, student)), (expected, *grads))


def test_transforms_and_compile():
    student, (hidden_T, weight_T, _) = drawn()

    def loss(hidden, weight):
        return linear_kendall_rank_loss(hidden, weight, hidden_T, weight_T, 2.0, chunk_size=4)

    expected = torch.autograd.grad(loss(*student[:2]), student[:2])
    if hasattr(torch, 'func'):
        hidden, weight = (tensor.detach() for tensor in student[:2])
        assert_equal(torch.func.grad(loss, argnums=(0, 1))(hidden, weight), expected)
    if hasattr(torch, 'compile'):
        compiled = torch.compile(loss, backend='aot_eager')
        assert_equal(torch.autograd.grad(compiled(*student[:2]), student[:2]), expected)


def test_a_loss_that_does_not_fit():
    (hidden_S, weight_S, _), (hidden_T, weight_T, _) = drawn()
    preds_T = F.linear(hidden_T, weight_T)
    with pytest.raises(ValueError, match=r"must return one loss .* pass it reduction='none'"):
        linear_head_losses(dist_loss, hidden_S, weight_S, preds_T)
    temperature = torch.tensor(4.0, requires_grad=True)
    with pytest.raises(ValueError, match='row_loss reads a tensor that requires a gradient'):
        linear_head_losses(
            lambda s, t: kd_loss(s / temperature, t, reduction='none'), hidden_S, weight_S, preds_T
        )
    with pytest.raises(ValueError, match='row_loss reads a tensor that requires a gradient'):
        linear_head_losses(
            lambda s, t: kd_loss(s, t, reduction='none'),
            *(hidden_S, weight_S, preds_T.requires_grad_()),
        )


def test_no_second_derivative():
    (hidden_S, weight_S, _), (hidden_T, weight_T, _) = drawn()
    loss = linear_kendall_rank_loss(hidden_S, weight_S, hidden_T, weight_T, 2.0)
    (grad,) = torch.autograd.grad(loss, hidden_S, create_graph=True)
    # Beside another term, too, which would hide that the gradient is a constant.
    with pytest.raises(RuntimeError, match='no second derivative in chunks: call row_loss'):
        (grad.square().sum() + hidden_S.sum()).backward()


@pytest.mark.parametrize(
    ('change', 'error', 'message'),
    [
        (dict(hidden_S=torch.ones(3, 5)), ValueError, r'hidden_S must be \(..., D\), weight_S'),
        (dict(hidden_S=torch.ones(3, WIDTH_S)), ValueError, r'hidden_T must begin with .* \(3,\)'),
        (dict(hidden_S=[1.0]), TypeError, 'hidden_S must be a torch.Tensor, got list'),
        (dict(weight_T=torch.ones(5, WIDTH_T)), ValueError, 'of the same classes'),
        (dict(bias_T=torch.ones(5)), ValueError, r'bias_T \(C,\) or None, got .* bias_T \(5,\)'),
        (dict(weight_S=torch.ones(13, 4).long()), TypeError, 'weight_S must be floating-point'),
        (dict(weight_T=None), ValueError, 'must be either hidden_T and weight_T.* got hidden_T'),
        (dict(ids=torch.ones(11, 2).long()), ValueError, 'got hidden_T, weight_T, ids'),
        (dict(hidden_T=torch.ones(11, 6).requires_grad_()), ValueError, r'hidden_T.detach\(\)'),
        (dict(mask=torch.ones(11)), TypeError, 'mask must be a bool tensor'),
        (dict(mask=torch.ones(3, dtype=torch.bool)), ValueError, 'one entry a row of hidden_S'),
        (dict(class_mask=torch.ones(4, dtype=torch.bool)), ValueError, 'class_mask must be'),
        (dict(chunk_size=0), ValueError, 'chunk_size must be 1 at least, got 0'),
        (dict(chunk_size=2.5), TypeError, 'chunk_size must be an int, got float'),
        (dict(reduction='batchmean'), ValueError, 'reduction must be one of'),
        (dict(steepness=0.0), ValueError, 'steepness must be positive'),
    ],
)
def test_refusals(change, error, message):
    (hidden_S, weight_S, _), (hidden_T, weight_T, _) = drawn()
    given = dict(hidden_S=hidden_S, weight_S=weight_S, hidden_T=hidden_T, weight_T=weight_T)
    with pytest.raises(error, match=message):
        linear_kendall_rank_loss(**{**given, **change})


def test_refusals_with_stored_scores():
    (hidden, weight, _), _ = drawn()
    ids, scores = stored()
    far = torch.tensor(99)
    with pytest.raises(ValueError, match='topk is for a teacher whose logits are all there'):
        linear_kendall_rank_loss(hidden, weight, ids=ids, scores=scores, topk=3)
    with pytest.raises(ValueError, match='ids must be classes of preds_S, 0 to 12, got 99'):
        linear_kendall_rank_loss(hidden, weight, ids=ids.where(ids > 0, far), scores=scores)
    with pytest.raises(ValueError, match=r'ids must begin with .*, \(11,\), got \(4, 5\)'):
        linear_kendall_rank_loss(hidden, weight, ids=ids[:4], scores=scores[:4])
    with pytest.raises(ValueError, match=r'each tensor in rows must begin with .* at place 0'):
        linear_head_losses(lambda s, t: s.sum(1), hidden, weight, scores[:4])

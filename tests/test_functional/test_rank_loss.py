"""The public function against the definition, written once more here in plain numpy."""

from __future__ import annotations

import itertools
import math

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkendall import kendall_rank_loss, live_pair_share
from mmkendall.functional import SURROGATES
from mmkendall.functional.backends.reference import ORDER_ONLY

BACKEND_NAMES = ('auto', 'numba', 'eager', 'reference')


def definition(student: np.ndarray, teacher: np.ndarray, k: float, surrogate: str) -> float:
    """1 - tau_d of one row, or the mean of softplus, pair by pair, in float64."""
    pairs = list(itertools.combinations(range(len(student)), 2))
    total = 0.0
    for i, j in pairs:
        ds, dt = student[i] - student[j], teacher[i] - teacher[j]
        if surrogate == 'product':
            total += np.tanh(k * dt) * np.tanh(k * ds)
        elif surrogate == 'diffkendall':
            total += np.tanh(k * dt * ds)
        elif surrogate == 'hard_teacher':
            total += np.sign(dt) * np.tanh(k * ds)
        else:
            total += 1 - (np.logaddexp(0, -k * np.sign(dt) * ds) if dt else 0)
    return 1 - total / len(pairs) if pairs else 0.0


@st.composite
def logit_pairs(draw):
    """Rows with ties, odd sizes, constant rows, huge and tiny logits, exactly float32."""
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 9)))
    scale = draw(st.sampled_from([1e-6, 0.01, 1.0, 30.0, 1e6]))
    values = st.integers(-8, 8).map(float)
    rows = [
        (draw(hnp.arrays(np.float64, shape, elements=values)) / 3 * scale).astype(np.float32)
        for _ in range(2)
    ]
    return rows


@pytest.mark.parametrize('surrogate', SURROGATES)
@pytest.mark.parametrize('backend', BACKEND_NAMES)
@settings(max_examples=40)
@given(rows=logit_pairs(), steepness=st.sampled_from([0.1, 1.0, 10.0, 100.0]))
def test_equals_definition(backend, surrogate, rows, steepness):
    student, teacher = rows
    expected = [
        definition(s, t, steepness, surrogate)
        for s, t in zip(student.astype(np.float64), teacher.astype(np.float64), strict=True)
    ]
    logits = torch.tensor(student, requires_grad=True)
    loss = kendall_rank_loss(
        logits, torch.tensor(teacher), steepness, surrogate, 'none', backend=backend
    )
    assert loss.shape == (len(student),)
    # float32 rounds a difference of huge logits before the tanh.
    np.testing.assert_allclose(loss.detach().numpy(), expected, atol=2e-5, rtol=1e-6)
    loss.sum().backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize('surrogate', SURROGATES)
@pytest.mark.parametrize('backend', BACKEND_NAMES)
@pytest.mark.parametrize('options', [{}, {'mink': 0.5}, {'topk': 3}, {'standardize': True}])
def test_gradcheck(backend, surrogate, options):
    student, teacher = torch.randn(2, 3, 7, dtype=torch.float64).requires_grad_().unbind()
    constant = teacher.detach()
    inputs = (student,) if surrogate in ORDER_ONLY else (student, teacher)

    def loss(student, teacher=constant):
        return kendall_rank_loss(
            student, teacher, 1.3, surrogate, 'none', backend=backend, **options
        )

    assert torch.autograd.gradcheck(loss, inputs)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize('backend', BACKEND_NAMES)
@pytest.mark.parametrize('surrogate', ['product', 'logistic'])
def test_dtypes(backend, dtype, surrogate):
    student = torch.randn(5, 33).to(dtype).requires_grad_()
    teacher = torch.randn(5, 33).to(dtype)
    loss = kendall_rank_loss(student, teacher, 10.0, surrogate, backend=backend)
    exact = student.detach().double().requires_grad_()
    expected = kendall_rank_loss(exact, teacher.double(), 10.0, surrogate, backend='reference')
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert abs(loss.item() - expected.item()) < 1e-6 * max(1, expected.item() / 2)
    loss.backward()
    expected.backward()
    assert student.grad.dtype == dtype
    precision = {torch.float16: 1e-3, torch.bfloat16: 1e-2}.get(dtype, 1e-5)
    error = (student.grad.double() - exact.grad).norm() / exact.grad.norm()
    assert error < precision


@pytest.mark.parametrize('backend', BACKEND_NAMES)
@pytest.mark.parametrize('surrogate', ['product', 'logistic'])
def test_autocast_changes_nothing(backend, surrogate):
    student, teacher = torch.randn(2, 4, 50).requires_grad_().unbind()
    plain = kendall_rank_loss(student, teacher, surrogate=surrogate, backend=backend)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        cast = kendall_rank_loss(student, teacher, surrogate=surrogate, backend=backend)
    assert cast.dtype == torch.float32
    assert cast.item() == plain.item()


@pytest.mark.parametrize('backend', BACKEND_NAMES)
def test_bounds(backend):
    """0 for the teacher's own order, 2 for its reverse, whatever the monotone map."""
    teacher = torch.randperm(20).float().expand(3, 20)
    best = kendall_rank_loss(teacher * 3 + 1, teacher, backend=backend)
    worst = kendall_rank_loss(-teacher, teacher, backend=backend)
    assert best.item() == pytest.approx(0, abs=1e-6)
    assert worst.item() == pytest.approx(2, abs=1e-6)


@pytest.mark.parametrize('backend', BACKEND_NAMES)
@pytest.mark.parametrize('num_classes', [1, 2])
def test_few_classes(backend, num_classes):
    student = torch.zeros(2, num_classes, requires_grad=True)
    teacher = torch.arange(2.0 * num_classes).view(2, num_classes)
    loss = kendall_rank_loss(student, teacher, backend=backend)
    loss.backward()
    assert loss.item() == (0 if num_classes == 1 else 1)
    assert torch.isfinite(student.grad).all()
    assert (student.grad != 0).any() == (num_classes == 2)


@pytest.mark.parametrize('backend', BACKEND_NAMES)
@pytest.mark.parametrize('poison', [float('nan'), float('inf'), -float('inf')])
@pytest.mark.parametrize('side', [0, 1])
def test_non_finite_in_nan_out(backend, poison, side):
    if side == 1 and poison == -float('inf'):
        return  # The teacher's last class: see test_classes.
    inputs = list(torch.randn(2, 3, 9).unbind())
    inputs[side][1, 4] = poison
    student = inputs[0].requires_grad_()
    loss = kendall_rank_loss(student, inputs[1], reduction='none', backend=backend)
    assert loss.isnan().tolist() == [False, True, False]
    loss[[0, 2]].sum().backward()
    assert torch.isfinite(student.grad[[0, 2]]).all()


@pytest.mark.parametrize('backend', BACKEND_NAMES)
def test_mask_hides_what_it_hides(backend):
    student, teacher = torch.randn(2, 4, 6).unbind()
    mask = torch.tensor([True, False, True, False])
    kept = kendall_rank_loss(student[mask], teacher[mask], backend=backend)
    student[1], teacher[3] = float('nan'), float('inf')
    student.requires_grad_()
    loss = kendall_rank_loss(student, teacher, mask=mask, backend=backend)
    loss.backward()
    torch.testing.assert_close(loss, kept)
    assert (student.grad[~mask] == 0).all()
    assert (student.grad[mask] != 0).any()
    rows = kendall_rank_loss(student, teacher, reduction='none', mask=mask, backend=backend)
    assert (rows[~mask] == 0).all()
    nothing = kendall_rank_loss(student, teacher, mask=torch.zeros(4, dtype=torch.bool))
    assert nothing.item() == 0


@pytest.mark.parametrize('backend', BACKEND_NAMES)
def test_class_dimension(backend):
    student, teacher = torch.randn(2, 2, 7, 3, 4).unbind()
    rows = [logits.permute(0, 2, 3, 1).reshape(-1, 7) for logits in (student, teacher)]
    expected = kendall_rank_loss(*rows, reduction='none', backend=backend)
    dense = kendall_rank_loss(student, teacher, reduction='none', backend=backend)
    assert dense.shape == (2, 3, 4)
    torch.testing.assert_close(dense.flatten(), expected)
    last = [logits.permute(0, 2, 3, 1) for logits in (student, teacher)]
    sequence = kendall_rank_loss(*last, reduction='none', dim=-1, backend=backend)
    torch.testing.assert_close(sequence, dense)
    single = kendall_rank_loss(rows[0][0], rows[1][0], dim=-1, backend=backend)
    torch.testing.assert_close(single, expected[0])


@pytest.mark.parametrize('backend', BACKEND_NAMES)
def test_non_contiguous(backend):
    student, teacher = torch.randn(2, 10, 6).unbind()
    expected = kendall_rank_loss(student.t().contiguous(), teacher.t().contiguous())
    torch.testing.assert_close(kendall_rank_loss(student.t(), teacher.t()), expected)
    wide = torch.randn(6, 20)
    torch.testing.assert_close(
        kendall_rank_loss(wide[:, ::2], teacher.t(), backend=backend),
        kendall_rank_loss(wide[:, ::2].contiguous(), teacher.t(), backend=backend),
    )


# Triton's interpreter has a test of its own.
@pytest.mark.parametrize('backend', ['auto', 'numba', 'eager'])
@pytest.mark.parametrize('num_classes', [255, 256, 257, 700])
def test_sizes_around_the_tiles(backend, num_classes):
    student, teacher = (torch.randn(2, 5, num_classes) * 3).unbind()
    student.requires_grad_()
    for steepness in (1.0, 100.0):
        exact = student.detach().double().requires_grad_()
        expected = kendall_rank_loss(exact, teacher.double(), steepness, backend='reference')
        (expected_grad,) = torch.autograd.grad(expected, exact)
        loss = kendall_rank_loss(student, teacher, steepness, backend=backend)
        (grad,) = torch.autograd.grad(loss, student)
        assert abs(loss.item() - expected.item()) < 1e-6
        assert (grad.double() - expected_grad).norm() < 1e-5 * expected_grad.norm()


def test_reductions_and_empty_batch():
    student, teacher = torch.randn(2, 4, 5).unbind()
    rows = kendall_rank_loss(student, teacher, reduction='none')
    torch.testing.assert_close(kendall_rank_loss(student, teacher), rows.mean())
    torch.testing.assert_close(kendall_rank_loss(student, teacher, reduction='sum'), rows.sum())
    empty = torch.empty(0, 5, requires_grad=True)
    loss = kendall_rank_loss(empty, torch.empty(0, 5))
    loss.backward()
    assert loss.item() == 0


@pytest.mark.parametrize(('option', 'largest'), [('topk', True), ('mink', False)])
def test_selection_follows_the_teacher(option, largest):
    student, teacher = torch.randn(2, 4, 10).unbind()
    chosen = teacher.topk(3, largest=largest).indices
    expected = kendall_rank_loss(student.gather(1, chosen), teacher.gather(1, chosen))
    for size in (3, 0.3):
        torch.testing.assert_close(kendall_rank_loss(student, teacher, **{option: size}), expected)
    # A fraction that rounds to less than a pair still ranks a pair.
    assert kendall_rank_loss(student, teacher, **{option: 0.01}).item() != 0


@pytest.mark.parametrize('backend', BACKEND_NAMES)
@pytest.mark.parametrize('option', ['topk', 'mink'])
def test_standardize_sees_the_selected_classes_alone(backend, option):
    student, teacher = torch.randn(2, 4, 10).double().unbind()
    # Classes that are not selected, far away: over all, the selected would have no spread.
    teacher[:, 3:] += -500 if option == 'topk' else 500
    student[:, 3:] *= 300
    zscores = [
        (rows - rows.mean(1, keepdim=True)) / rows.std(1, unbiased=False, keepdim=True)
        for rows in (student[:, :3], teacher[:, :3])
    ]
    expected = kendall_rank_loss(*zscores, 0.7, backend='reference')
    loss = kendall_rank_loss(
        student, teacher, 0.7, standardize=True, backend=backend, **{option: 3}
    )
    torch.testing.assert_close(loss, expected)


def test_standardize_is_blind_to_scale():
    student, teacher = torch.randn(2, 4, 10).unbind()
    plain = kendall_rank_loss(student, teacher, 2.0, standardize=True)
    scaled = kendall_rank_loss(student * 7 + 3, teacher * 0.1, 2.0, standardize=True)
    torch.testing.assert_close(plain, scaled)
    constant = torch.full((2, 5), 3.0, requires_grad=True)
    kendall_rank_loss(constant, torch.randn(2, 5), standardize=True).backward()
    assert torch.isfinite(constant.grad).all()


def test_teacher_gets_a_gradient_only_when_asked():
    student, teacher = torch.randn(2, 4, 6).unbind()
    student.requires_grad_()
    loss = kendall_rank_loss(student, teacher)
    loss.backward()
    assert teacher.grad is None
    with torch.no_grad():
        assert not kendall_rank_loss(student, teacher).requires_grad


@pytest.mark.parametrize('surrogate', SURROGATES)
def test_the_order_alone_knows_no_scale_of_the_teacher(surrogate):
    student, teacher = torch.randn(2, 3, 8, dtype=torch.float64).unbind()
    losses = [kendall_rank_loss(student, t, 1.0, surrogate) for t in (teacher, teacher.exp() / 7)]
    assert (losses[0] == losses[1]) == (surrogate in ORDER_ONLY)
    # Nor a gradient of it.
    teacher.requires_grad_()
    (grad,) = torch.autograd.grad(kendall_rank_loss(student, teacher, 1.0, surrogate), teacher)
    assert bool((grad == 0).all()) == (surrogate in ORDER_ONLY)


@pytest.mark.parametrize('backend', BACKEND_NAMES)
def test_logistic_keeps_teaching_a_wrong_pair(backend):
    """Where tanh has long forgotten it. A right one is left alone, and so is a tied one."""
    teacher = torch.tensor([[1.0, 0.0, 3.0, 2.0, 9.0, 9.0]])
    student = torch.tensor([[0.0, 5e4, 3e5, 2e5, 9e5, 8e5]], requires_grad=True)
    loss = kendall_rank_loss(student, teacher, 2.0, 'logistic', backend=backend)
    (grad,) = torch.autograd.grad(loss, student)
    # One of 15 pairs.
    assert loss.item() == pytest.approx(2 * 5e4 / 15)
    torch.testing.assert_close(grad * 15, torch.tensor([[-2.0, 2.0, 0.0, 0.0, 0.0, 0.0]]))


@pytest.mark.parametrize('backend', BACKEND_NAMES)
@pytest.mark.parametrize('surrogate', ORDER_ONLY)
def test_a_constant_teacher_has_no_order(backend, surrogate):
    student = torch.randn(3, 40).requires_grad_()
    loss = kendall_rank_loss(student, torch.zeros(3, 40), 2.0, surrogate, backend=backend)
    (grad,) = torch.autograd.grad(loss, student)
    assert loss.item() == (0.0 if surrogate == 'logistic' else 1.0)
    assert not grad.any()


def test_no_memory_of_pairs():
    """The tiles are of a fixed size: what the loss keeps for backward is O(N C)."""
    saved = []
    student, teacher = torch.randn(2, 2, 400).unbind()
    student.requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: saved.append(tensor.numel()) or tensor, lambda tensor: tensor
    ):
        kendall_rank_loss(student, teacher)
    assert max(saved) <= student.numel()


def test_only_the_definition_has_a_second_derivative():
    student, teacher = torch.randn(2, 3, 5).unbind()
    student.requires_grad_()
    loss = kendall_rank_loss(student, teacher, 1.0)
    (grad,) = torch.autograd.grad(loss, student, create_graph=True)
    with pytest.raises(RuntimeError, match="backend='reference'"):
        grad.square().sum().backward()
    loss = kendall_rank_loss(student, teacher, 1.0, backend='reference')
    (grad,) = torch.autograd.grad(loss, student, create_graph=True)
    grad.square().sum().backward()
    assert torch.isfinite(student.grad).all()


LOGITS = torch.zeros(2, 3)


@pytest.mark.parametrize(
    ('arguments', 'options', 'error', 'message'),
    [
        (('x', LOGITS), {}, TypeError, 'preds_S must be a torch.Tensor, got str'),
        ((LOGITS, LOGITS.int()), {}, TypeError, 'preds_T must hold floating-point.*int32'),
        ((LOGITS, LOGITS[:, :2]), {}, ValueError, r'same shape, got \(2, 3\) and \(2, 2\)'),
        ((LOGITS, LOGITS.half()), {}, TypeError, 'same dtype.*float32.*float16'),
        ((LOGITS, LOGITS.to('meta')), {}, ValueError, 'same device, got cpu and meta'),
        ((LOGITS[0], LOGITS[0]), {}, ValueError, 'dim=1 is not a dimension.*pass dim=-1'),
        ((LOGITS[:, :0], LOGITS[:, :0]), {}, ValueError, 'no classes'),
        ((LOGITS, LOGITS), {'steepness': 0}, ValueError, 'steepness must be positive'),
        ((LOGITS, LOGITS), {'steepness': float('inf')}, ValueError, 'finite, got inf'),
        ((LOGITS, LOGITS), {'steepness': '1'}, TypeError, 'steepness must be a number, got str'),
        ((LOGITS, LOGITS), {'surrogate': 'tanh'}, ValueError, "one of .*'product'.*got 'tanh'"),
        ((LOGITS, LOGITS), {'reduction': 'batchmean'}, ValueError, "got 'batchmean'"),
        ((LOGITS, LOGITS), {'backend': 'eagr'}, ValueError, "'auto', .*'eager'.*got 'eagr'"),
        ((LOGITS, LOGITS), {'topk': 2, 'mink': 2}, ValueError, 'topk or mink, not both'),
        ((LOGITS, LOGITS), {'topk': 4}, ValueError, 'topk=4 classes.*have 3'),
        ((LOGITS, LOGITS), {'mink': 0}, ValueError, 'mink as a count must be 1 at least'),
        ((LOGITS, LOGITS), {'mink': 1.5}, ValueError, 'fraction must lie between 0 and 1'),
        ((LOGITS, LOGITS), {'topk': True}, TypeError, 'topk must be an int'),
        ((LOGITS, LOGITS), {'mask': torch.ones(2)}, TypeError, 'bool tensor, got torch.float32'),
        ((LOGITS, LOGITS), {'mask': LOGITS.bool()}, ValueError, r'\(2,\), got \(2, 3\)'),
        ((LOGITS, LOGITS), {'dim': 1.0}, TypeError, 'dim must be an int, got float'),
        ((LOGITS, LOGITS), {'standardize': 1}, TypeError, 'standardize must be a bool'),
        ((LOGITS, LOGITS), {'compute_value': 0}, TypeError, 'compute_value must be a bool'),
    ],
)
def test_bad_input_is_named(arguments, options, error, message):
    with pytest.raises(error, match=message):
        kendall_rank_loss(*arguments, **options)


@settings(max_examples=50)
@given(
    row=hnp.arrays(np.float64, st.integers(1, 12), elements=st.floats(-3, 3, width=16)),
    steepness=st.sampled_from([0.5, 1.0, 10.0]),
)
def test_live_pair_share(row, steepness):
    pairs = list(itertools.combinations(row, 2))
    live = [1 - np.tanh(steepness * (a - b)) ** 2 for a, b in pairs]
    # On the threshold itself, rounding decides.
    if any(abs(slope - 1e-3) < 1e-9 for slope in live):
        return
    expected = np.mean([slope > 1e-3 for slope in live]) if pairs else 1.0
    share = live_pair_share(torch.tensor(row), steepness, dim=-1)
    assert share.item() == pytest.approx(expected)


def test_live_pairs_are_of_the_classes_that_count():
    row = torch.randn(3, 9)
    row[0, 2:5], row[1, 1:], row[2] = -math.inf, -math.inf, -math.inf
    expected = [live_pair_share(row[:1, [0, 1, 5, 6, 7, 8]], 2.0).item(), 1, 1]
    assert live_pair_share(row, 2.0).tolist() == pytest.approx(expected)


@pytest.mark.parametrize('options', [{'steepness': -1.0}, {'threshold': 1.0}])
def test_live_pair_share_refuses(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        live_pair_share(LOGITS, **options)

"""Classes that do not count, rows that do not count, and rows without spread."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkendall import kendall_rank_loss, kendall_tau
from mmkendall.functional import SURROGATES
from mmkendall.functional.backends import BACKENDS, eager, numba_cpu
from mmkendall.functional.backends.flat import flat_or_not_finite, flat_rows
from tests.test_functional.drawn import STEEPNESS, assert_close, definition, needs_numba

INF = math.inf
every_backend = pytest.mark.parametrize(
    'backend', ['auto', 'eager', 'reference', pytest.param('numba', marks=needs_numba)]
)


def zscores(logits, of=None):
    of = logits if of is None else of
    return (logits - of.mean()) / ((of - of.mean()).square().mean() + 1e-12).sqrt()


def row_definition(student, teacher, counts, steepness, surrogate, options):
    """One row in float64: the classes that count are cut out, then pair by pair."""
    student, teacher = student[counts], teacher[counts]
    kept = ~((student == -INF) & (teacher == -INF))
    student, teacher = student[kept], teacher[kept]
    size = options.get('topk', options.get('mink'))
    if size is not None:
        if isinstance(size, float):
            size = max(2, round(size * len(student)))
        order = teacher.argsort(descending='topk' in options)[:size]
        student, teacher = student[order], teacher[order]
    if len(student) < 2:
        return student.sum() * 0
    if options.get('standardize'):
        finite = teacher.isfinite()
        student = zscores(student)
        teacher = torch.where(finite, zscores(teacher, teacher[finite]), teacher)
    if surrogate == 'diffkendall':  # Last is 20 / k below the lowest.
        lowest = teacher[teacher > -INF].min() if (teacher > -INF).any() else torch.zeros(())
        teacher = torch.where(teacher == -INF, lowest - 20 / steepness, teacher)
    i, j = torch.triu_indices(len(student), len(student), 1)
    delta_S = student[i] - student[j]
    delta_T = (teacher[i] - teacher[j]).nan_to_num(0.0, INF, -INF)
    if surrogate == 'product':
        agreement = torch.tanh(steepness * delta_T) * torch.tanh(steepness * delta_S)
    elif surrogate == 'diffkendall':
        agreement = torch.tanh(steepness * delta_T * delta_S)
    elif surrogate == 'hard_teacher':
        agreement = delta_T.sign() * torch.tanh(steepness * delta_S)
    else:
        wrong_by = -steepness * delta_T.sign() * delta_S
        softplus = torch.logaddexp(wrong_by, torch.zeros_like(wrong_by))
        agreement = 1 - softplus * (delta_T != 0)
    return 1 - agreement.mean()


@st.composite
def rows_with_gaps(draw):
    """Student, teacher, a class mask or None, and for each row which classes it lets count."""
    shape = draw(st.integers(1, 5)), draw(st.sampled_from([1, 2, 3, 9, 33]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    scale = draw(st.sampled_from([0.02, 2.5]))
    student, teacher = (torch.randn(2, *shape, generator=generator) * scale).to(dtype)

    def drawn(share, size=shape):
        return torch.rand(size, generator=generator) < share

    share = st.sampled_from([0.0, 0.3, 0.9])
    teacher[drawn(draw(share))] = -INF
    absent = drawn(draw(share))
    student[absent] = teacher[absent] = -INF
    kind = draw(st.sampled_from([None, 'classes', 'each row']))
    if kind is None:
        return student, teacher, None, torch.ones(shape, dtype=torch.bool)
    mask = ~drawn(draw(share), shape if kind == 'each row' else shape[1:])
    counts = mask.expand(shape)
    # Whatever stands where nothing counts.
    hole = drawn(0.5) & ~counts
    student[hole], teacher[hole] = math.nan, INF
    return student, teacher, mask, counts


@every_backend
@pytest.mark.parametrize('surrogate', SURROGATES)
@settings(max_examples=60)
@given(
    rows=rows_with_gaps(),
    steepness=st.sampled_from([1.0, 30.0]),
    options=st.sampled_from(
        [
            *({}, {}, {'topk': 0.5}, {'mink': 0.4}, {'mink': 1}, {'standardize': True}),
            *({'topk': 0.6, 'standardize': True}, {'mink': 0.5, 'standardize': True}),
        ]
    ),
)
def test_equals_the_loss_of_what_counts(backend, surrogate, rows, steepness, options):
    student, teacher, class_mask, counts = rows
    if 'mink' in options or 'topk' in options:
        # Which of equal logits is taken is not said.
        teacher = teacher.masked_fill(counts & (teacher == -INF) & (student != -INF), -500.0)
        teacher = teacher - (teacher == -500.0) * torch.arange(teacher.shape[1])
    if surrogate == 'logistic' and 'standardize' in options:
        # A wrong pair of z-scores pulls with k over the row's deviation, of which their gradient
        # may leave nothing but what float32 rounds.
        student, teacher = student.double(), teacher.double()
    exact = student.double().requires_grad_()
    losses = [
        row_definition(*row, steepness, surrogate, options)
        for row in zip(exact, teacher.double(), counts, strict=True)
    ]
    (expected_grad,) = torch.autograd.grad(sum(losses), exact)
    expected = torch.stack(losses).detach()
    has_pairs = (counts & ~((student == -INF) & (teacher == -INF))).sum(dim=1) > 1

    student.requires_grad_()
    single = student.dtype == torch.float32
    for reduction in ('none', 'mean', 'sum'):
        loss = kendall_rank_loss(
            student, teacher, steepness, surrogate, reduction,
            class_mask=class_mask, backend=backend, **options,
        )  # fmt: skip
        share = max(int(has_pairs.sum()), 1) if reduction == 'mean' else 1
        wanted = expected if reduction == 'none' else expected.sum() / share
        off = (loss.detach() - wanted).abs() / (wanted / 10).clamp(min=1)
        assert off.max() < (3e-6 if single else 1e-12)
        (grad,) = torch.autograd.grad(loss.sum(), student)
        assert grad.isfinite().all()
        error = (grad * share - expected_grad).norm(dim=1)
        assert (error <= (1e-4 if single else 1e-10) * (1 + expected_grad.norm(dim=1))).all()


@every_backend
@pytest.mark.parametrize('surrogate', SURROGATES)
@pytest.mark.parametrize('num_classes', [4, 300])
def test_what_stays_an_error_of_its_row(backend, surrogate, num_classes):
    student, teacher = torch.randn(2, 5, num_classes)
    student[0, 1] = teacher[0, 1] = -INF  # Does not count.
    teacher[1, 2] = -INF  # Last.
    student[2, 0] = -INF  # The student alone.
    teacher[3, 0] = INF
    teacher[4, 0], teacher[4, 1] = -INF, math.nan
    student.requires_grad_()
    for steepness in (0.1, 100.0):
        losses = kendall_rank_loss(student, teacher, steepness, surrogate, 'none', backend=backend)
        assert losses.isnan().tolist() == [False, False, True, True, True]
        (grad,) = torch.autograd.grad(losses[:2].sum(), student)
        assert grad[:2].isfinite().all()


@every_backend
def test_the_teachers_gradient_where_classes_do_not_count(backend):
    student, teacher = torch.randn(2, 3, 7, dtype=torch.float64).unbind()
    student[0, 2] = teacher[0, 2] = -INF
    teacher[1, 4] = -INF
    inputs = [student.clone().requires_grad_(), teacher.clone().requires_grad_()]
    kendall_rank_loss(*inputs, 2.0, reduction='sum', backend=backend).backward()
    exact = [student.clone().requires_grad_(), teacher.clone().requires_grad_()]
    everything = torch.ones(7, dtype=torch.bool)
    sum(
        row_definition(*row, everything, 2.0, 'product', {}) for row in zip(*exact, strict=True)
    ).backward()
    for result, expected in zip(inputs, exact, strict=True):
        torch.testing.assert_close(
            result.grad, expected.grad.nan_to_num(0.0), atol=1e-12, rtol=1e-9
        )


@every_backend
@pytest.mark.parametrize('compute_value', [True, False])
@pytest.mark.parametrize('reduction', ['mean', 'sum'])
def test_a_value_that_is_not_wanted_leaves_the_gradient(backend, reduction, compute_value):
    """Of both logits, with and without classes that do not count."""
    student, teacher = torch.randn(2, 5, 40, dtype=torch.float64).unbind()
    for hidden in (0, 7):
        student[:3, :hidden] = teacher[:3, :hidden] = -INF
        grads = []
        for chosen, wanted in ((backend, compute_value), ('reference', True)):
            inputs = [student.clone().requires_grad_(), teacher.clone().requires_grad_()]
            loss = kendall_rank_loss(
                *inputs, 1.5, reduction=reduction, backend=chosen, compute_value=wanted
            )
            assert (loss == 0) == (not wanted)
            grads.append(torch.autograd.grad(loss, inputs))
        for grad, expected in zip(*grads, strict=True):
            assert (expected != 0).any()
            torch.testing.assert_close(grad, expected, rtol=1e-9, atol=1e-13)


@every_backend
def test_class_mask_of_other_shapes(backend):
    student, teacher = torch.randn(2, 2, 7, 3, 4).unbind()
    mask = torch.rand(2, 7, 3, 4) < 0.6
    rows = [tensor.movedim(1, -1) for tensor in (student, teacher, mask)]
    flat = [tensor.reshape(-1, 7) for tensor in rows]
    options = dict(reduction='none', backend=backend)
    expected = kendall_rank_loss(*flat[:2], class_mask=flat[2], **options).reshape(2, 3, 4)
    torch.testing.assert_close(
        kendall_rank_loss(student, teacher, class_mask=mask, **options), expected
    )
    last = kendall_rank_loss(*rows[:2], class_mask=rows[2], dim=-1, **options)
    torch.testing.assert_close(last, expected)
    one = flat[0][0], flat[1][0]
    single = kendall_rank_loss(*one, class_mask=flat[2][0], dim=-1, **options)
    torch.testing.assert_close(single, expected[0, 0, 0])


@pytest.mark.parametrize(
    ('mask', 'error', 'message'),
    [
        ([True] * 3, TypeError, 'class_mask must be a bool tensor, got list'),
        (torch.ones(3), TypeError, r'class_mask must be a bool tensor, got torch\.float32'),
        (
            torch.ones(2).bool(),
            ValueError,
            r'shape \(3,\), one entry a class, or \(2, 3\) .*\(2,\)',
        ),
        (torch.ones(3, device='meta').bool(), ValueError, 'class_mask must be on cpu'),
    ],
)
def test_refuses_a_class_mask(mask, error, message):
    logits = torch.randn(2, 3)
    for function in (kendall_rank_loss, kendall_tau):
        with pytest.raises(error, match=message):
            function(logits, logits, class_mask=mask)


@pytest.mark.skipif(not hasattr(torch.library, 'custom_op'), reason='needs torch 2.4')
def test_compiles_with_classes_that_do_not_count():
    def total(preds_S, preds_T, class_mask):
        return kendall_rank_loss(preds_S, preds_T, 2.0, class_mask=class_mask, mink=0.5)

    def plain(preds_S, preds_T):
        return kendall_rank_loss(preds_S, preds_T, 2.0, standardize=True)

    torch.compiler.reset()
    student, teacher = torch.randn(2, 4, 10).unbind()
    student[1, 3] = teacher[1, 3] = -INF
    teacher[2, :4] = -INF
    student.requires_grad_()
    mask = torch.rand(4, 10) < 0.7
    for function, arguments in ((total, (student, teacher, mask)), (plain, (student, teacher))):
        compiled = torch.compile(function, fullgraph=True, backend='aot_eager')
        loss, expected = compiled(*arguments), function(*arguments)
        torch.testing.assert_close(loss, expected)
        grads = [torch.autograd.grad(value, student)[0] for value in (loss, expected)]
        torch.testing.assert_close(*grads)


@every_backend
@pytest.mark.parametrize('surrogate', SURROGATES)
@pytest.mark.parametrize(
    'options', [{}, {'topk': 2}, {'mink': 0.5, 'standardize': True}, {'compute_value': False}]
)
def test_no_rows(backend, surrogate, options):
    """By the batch, by the mask of the rows and by that of the classes: 0, and zeros behind it."""
    none, some = torch.empty(0, 5), torch.full((3, 5), math.nan)
    masked = dict(mask=torch.zeros(3, dtype=torch.bool))
    absent = dict(class_mask=torch.zeros(5, dtype=torch.bool))
    for logits, masks in (
        (none, {}),
        (none, {'mask': masked['mask'][:0]}),
        (none, absent),
        (some, masked),
        (some, absent),
        (some, {**masked, **absent}),
    ):
        for reduction in ('mean', 'sum', 'none'):
            inputs = [logits.clone().requires_grad_() for _ in range(2)]
            loss = kendall_rank_loss(
                *inputs, 2.0, surrogate, reduction, backend=backend, **masks, **options
            )
            assert loss.shape == (logits.shape[:1] if reduction == 'none' else ())
            assert not loss.any()
            loss.sum().backward()
            assert not any(tensor.grad.any() for tensor in inputs)


# What is flat is another matter to 'logistic': it takes any row in O(C log C).
WITH_TANH = tuple(name for name in SURROGATES if name != 'logistic')
FLAT_KINDS = ('constant', 'narrow', 'tiny', 'two values', 'mostly tied')


@pytest.mark.parametrize('flat_side', [0, 1])
@settings(max_examples=60)
@given(
    kind=st.sampled_from(FLAT_KINDS),
    wide=st.sampled_from(['plain', 'ties', 'cluster', 'huge', 'constant']),
    steepness=st.sampled_from(STEEPNESS),
    surrogate=st.sampled_from(WITH_TANH),
    num_classes=st.sampled_from([2, 5, 130, 700]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 1000),
)
def test_flat_rows_equal_the_definition(
    flat_side, kind, wide, steepness, surrogate, num_classes, dtype, seed
):
    generator = torch.Generator().manual_seed(seed)
    pair = list(torch.randn(2, 2, num_classes, generator=generator, dtype=torch.float64))
    flat, other = pair[flat_side], pair[1 - flat_side]
    if kind == 'two values':
        flat = flat.sign()
    elif kind == 'mostly tied':
        flat = torch.where(torch.rand(flat.shape, generator=generator) < 0.1, flat, -4.0)
        flat = flat * 16 * steepness  # Spread by itself, that is.
    flat = (
        flat
        * {'narrow': 0.06, 'tiny': 1e-6, 'two values': 0.2, 'mostly tied': 0.06}.get(kind, 0.0)
        / steepness
    )
    if wide == 'ties':
        other = (other * 2).round() / 2
    elif wide == 'cluster':
        other = other / 30
        other[:, 0] = 8.0
    elif wide == 'huge':
        other = other * 1e30
    elif wide == 'constant':
        other = other[:, :1].expand_as(other)
    pair[flat_side], pair[1 - flat_side] = flat, other
    pair = [rows.to(dtype).contiguous() for rows in pair]
    if not flat_or_not_finite(*pair, steepness, surrogate)[0].all():
        return
    result = flat_rows(*pair, steepness, surrogate, True)
    assert_close(result, definition(*pair, steepness, surrogate), steepness)
    assert torch.equal(flat_rows(*pair, steepness, surrogate, False)[1], result[1])


@pytest.mark.parametrize('backend', ['eager', pytest.param('numba', marks=needs_numba)])
@pytest.mark.parametrize('surrogate', SURROGATES)
def test_rows_without_spread_among_others(backend, surrogate):
    """Flat rows, a row that is not finite and usual ones in one batch, each as it is alone."""
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 6, 1500 if backend == 'numba' else 400)
    student[1], teacher[2], student[3], teacher[3] = 0.5, -0.5, 1.0, 2.0
    student[4] *= 1e-4
    expected = definition(student, teacher, 3.0, surrogate)
    run = BACKENDS[backend].rank_loss
    assert_close(run(student, teacher, 3.0, surrogate, True), expected, 3.0)
    mean = run(student, teacher, 3.0, surrogate, True, average=True)
    assert_close(mean, (expected[0].mean(), expected[1] / 6), 3.0)
    student[5, 0] = math.nan
    losses, grad = run(student, teacher, 3.0, surrogate, True)
    assert losses.isnan().tolist() == [False] * 5 + [True]
    assert grad[5].isnan().all()
    assert_close((losses[:5], grad[:5]), [part[:5] for part in expected], 3.0)


@needs_numba
@pytest.mark.parametrize('surrogate', ['product', 'hard_teacher', 'logistic'])
@pytest.mark.parametrize(
    'kind',
    ['masked', 'absent', 'constant teacher', 'constant student', 'narrow student', 'few votes'],
)
def test_rows_without_spread_cost_no_pairs(surrogate, kind, monkeypatch):
    """Loops that may look at all pairs of 30,000 classes never see them. Logistic sorts."""
    student, teacher = torch.randn(2, 2, 30_000).unbind()
    options = {}
    if kind == 'masked':
        options = {'mask': torch.tensor([False, False])}
    elif kind == 'absent':
        options = {'class_mask': torch.zeros(30_000, dtype=torch.bool)}
    elif kind == 'constant teacher':
        teacher = torch.zeros_like(teacher)
    elif kind == 'few votes':
        teacher[:, 50:] = -INF
    else:
        student = student * 1e-4 if kind == 'narrow student' else torch.ones_like(student)
    seen = []
    share = numba_cpu._share_rows
    monkeypatch.setattr(
        *(numba_cpu, '_share_rows'),
        lambda seconds, rows, run, *call: seen.append(run) or share(seconds, rows, run, *call),
    )
    kendall_rank_loss(
        student.requires_grad_(), teacher, 30.0, surrogate, backend='numba', **options
    ).backward()
    sorting = numba_cpu._loops('logistic')
    if surrogate == 'logistic':
        assert set(seen) <= set(sorting)
    else:
        assert seen == []
    kendall_rank_loss(*torch.randn(2, 2, 3000), 30.0, surrogate, backend='numba')
    assert seen
    assert set(seen) <= set(numba_cpu._loops(surrogate))


@pytest.mark.parametrize(
    'kind', ['masked', 'constant teacher', 'constant student', 'few votes', 'nan']
)
def test_eager_leaves_them_out(kind, monkeypatch):
    """No pair of theirs is looked at, and the usual rows keep their algorithm."""
    calls = []
    tiles = eager._tiles
    monkeypatch.setattr(eager, '_tiles', lambda *args: calls.append(1) or tiles(*args))
    student, teacher = torch.randn(2, 4, 3000).unbind()
    options = {}
    if kind == 'masked':
        options = {'mask': torch.tensor([True, False, True, False])}
    elif kind == 'constant teacher':
        teacher[1] = 0.0
    elif kind == 'constant student':
        student[3] = 1.0
    elif kind == 'few votes':
        teacher[1, 9:] = -INF
    else:
        student[2, 5] = math.nan
    student.requires_grad_()
    kendall_rank_loss(student, teacher, 100.0, backend='eager', **options).backward()
    assert not calls


@pytest.mark.parametrize('way', ['numba', 'torch'])
@settings(max_examples=40)
@given(rows=rows_with_gaps())
def test_tau_of_the_classes_that_count(way, rows):
    if way == 'numba' and numba_cpu._import_problem() is not None:
        pytest.skip('Numba is not installed')
    student, teacher, class_mask, counts = rows
    with pytest.MonkeyPatch.context() as patch:
        if way == 'torch':
            patch.setattr(numba_cpu, '_import_problem', lambda: 'not wanted here')
        tau = kendall_tau(student, teacher, class_mask=class_mask)
        for row in range(len(student)):
            kept = counts[row]
            if class_mask is None:
                expected = kendall_tau(student[row], teacher[row], dim=-1)
            else:
                cut = student[row, kept], teacher[row, kept]
                expected = (
                    kendall_tau(*cut, dim=-1) if kept.any() else torch.tensor(math.nan).double()
                )
            torch.testing.assert_close(tau[row], expected, equal_nan=True)

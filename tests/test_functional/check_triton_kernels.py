"""Run by test_triton.py: the kernels against the definition in float64.

On a CPU they run in Triton's interpreter, on a CUDA device as they are.
"""

import math
import warnings

import pytest
import torch
import triton
import triton.language as tl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmkendall.functional import kendall_rank_loss
from mmkendall.functional.backends import self_check, triton_cuda, triton_kernels
from tests.test_functional.drawn import (
    LAYOUTS,
    STEEPNESS,
    assert_close,
    check_function,
    definition,
    logits,
)
from tests.test_functional.test_classes import row_definition, rows_with_gaps

SURROGATES = triton_cuda.SURROGATES
DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
CASES = [
    *((surrogate, 'dense') for surrogate in SURROGATES),
    *((surrogate, 'window') for surrogate in triton_cuda.WINDOW_SURROGATES),
]

SORTED_CLASSES = triton_cuda.SORTED_CLASSES


@pytest.fixture(autouse=True)
def _sorted_by_torch(monkeypatch):
    """The interpreter takes long to sort, so there tests of the sort alone do it."""
    if DEVICE == 'cpu':
        monkeypatch.setattr(triton_cuda, 'SORTED_CLASSES', 0)


def draw(num_rows, num_classes, spread=2.5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (spread * torch.randn(2, num_rows, num_classes, generator=generator)).to(DEVICE)


def check(preds_S, preds_T, steepness, surrogate, algorithm):
    losses, grad = triton_cuda.rank_loss(
        preds_S, preds_T, steepness, surrogate, True, algorithm=algorithm
    )
    expected, expected_grad = definition(preds_S, preds_T, steepness, surrogate)
    # A value that is above 2, as that of 'logistic' may be, is as near as 5e-7 of itself.
    assert ((losses - expected).abs() / (expected / 2).clamp(min=1)).max() <= 1e-6
    # Beside its norm: a gradient below 1e-12 of its bound 2k / C is as good as none.
    bound = 1e-5 * expected_grad.norm() + 1e-12 * steepness / preds_S.shape[1]
    assert (grad - expected_grad).norm() <= bound


@pytest.mark.parametrize(('surrogate', 'algorithm'), CASES)
@pytest.mark.parametrize('steepness', [1e-3, 0.5, 7.0, 100.0])
@pytest.mark.parametrize('shape', [(3, 2), (2, 33), (2, 130)])
def test_definition(shape, steepness, surrogate, algorithm):
    check(*draw(*shape), steepness, surrogate, algorithm)


# The interpreter takes seconds for what a GPU does at once. The fixture is the same for all.
DRAWN = settings(
    max_examples=200 if DEVICE == 'cuda' else 10,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
SIZES = (2, 3, 9, 33, 65, 100)


@pytest.mark.parametrize(('surrogate', 'algorithm'), CASES)
@DRAWN
@given(pair=logits(SIZES, (torch.float32,)), steepness=st.sampled_from(STEEPNESS))
def test_drawn_logits(surrogate, algorithm, pair, steepness):
    preds_S, preds_T = (preds.to(DEVICE) for preds in pair)
    result = triton_cuda.rank_loss(
        preds_S, preds_T, steepness, surrogate, True, algorithm=algorithm
    )
    assert_close(result, definition(preds_S, preds_T, steepness, surrogate), steepness)


@DRAWN
@given(
    pair=logits(SIZES, (torch.float16, torch.bfloat16, torch.float32)),
    layouts=st.tuples(*[st.sampled_from(sorted(LAYOUTS))] * 2),
    steepness=st.sampled_from(STEEPNESS),
    surrogate=st.sampled_from(SURROGATES),
)
def test_function_takes_all_dtypes_and_layouts(pair, layouts, steepness, surrogate):
    pair = [preds.to(DEVICE) for preds in pair]
    check_function(pair, layouts, steepness, surrogate, 'triton')


@pytest.mark.parametrize(('surrogate', 'algorithm'), CASES)
@pytest.mark.parametrize('steepness', [1.0, 50.0])
def test_ties_and_signed_zeros(steepness, surrogate, algorithm):
    preds_S, preds_T = draw(3, 70).round()
    preds_S[0], preds_T[1] = 1.5, -0.5
    preds_S[2, ::2] *= -1
    check(preds_S, preds_T, steepness, surrogate, algorithm)


@pytest.mark.parametrize(('surrogate', 'algorithm'), CASES)
@pytest.mark.parametrize('spread', [1e-4, 1e4, 1e18])
def test_scale(spread, surrogate, algorithm):
    check(*draw(2, 40, spread), 1.0, surrogate, algorithm)


@pytest.mark.parametrize(('surrogate', 'algorithm'), CASES)
def test_one_outlier(surrogate, algorithm):
    preds_S, preds_T = draw(2, 70, 0.1)
    preds_S[:, 3] = 1e6
    preds_T[:, 5] = -1e6
    check(preds_S, preds_T, 10.0, surrogate, algorithm)


@pytest.mark.parametrize(('surrogate', 'algorithm'), CASES)
def test_shares_of_the_columns_and_of_a_chunk(surrogate, algorithm, monkeypatch):
    monkeypatch.setattr(triton_cuda, 'MIN_COLUMNS', 50)
    monkeypatch.setattr(triton_cuda, 'MIN_PROGRAMS', 36)
    if DEVICE == 'cpu':  # Compiled kernels can't see the change, which is for the interpreter.
        monkeypatch.setattr(triton_kernels, 'CHUNK', 64)
    preds_S, preds_T = draw(1, 190)
    assert triton_cuda._grid(1, 190)[2] == 3
    assert triton_cuda._circle(1, 190) == (6, 32, 4)
    check(preds_S, preds_T, 3.0, surrogate, algorithm)


@pytest.mark.parametrize('surrogate', SURROGATES)
@pytest.mark.parametrize(('most', 'circle'), [(1, (1, 192)), (2, (2, 96)), (3, (3, 64))])
def test_blocks_of_several_tiles(most, circle, surrogate, monkeypatch):
    monkeypatch.setattr(triton_cuda, 'MIN_BLOCKS', most)
    monkeypatch.setattr(triton_cuda, 'MAX_BLOCKS', most)
    assert triton_cuda._circle(1, 170)[:2] == circle
    for steepness in (1.0, 40.0):  # by ratios and by differences
        check(*draw(1, 170), steepness, surrogate, 'dense')


@pytest.mark.parametrize('most', [0, SORTED_CLASSES])
@pytest.mark.parametrize('num_classes', [2, 33])
def test_sorts(num_classes, most, monkeypatch):
    """With ties, signed zeros, and a row whose order no float32 comparison gives."""
    monkeypatch.setattr(triton_cuda, 'SORTED_CLASSES', most)
    preds_S, preds_T = draw(3, num_classes).round()
    check(preds_S, preds_T, 7.0, 'product', 'window')
    kept = triton_cuda.rank_loss(preds_S, preds_T, 7.0, 'product', True, algorithm='window')
    for bits in (-1, 0x7FFFFFFF):  # NaN, the least and the greatest of all keys
        preds_S[1, num_classes // 2 :] = torch.tensor(bits, dtype=torch.int32).view(torch.float32)
        found = triton_cuda.rank_loss(preds_S, preds_T, 7.0, 'product', True, algorithm='window')
        for now, before in zip(found, kept, strict=True):
            assert now[1].isnan().all()
            assert torch.equal(now[::2], before[::2])


@pytest.mark.parametrize(('surrogate', 'algorithm'), CASES)
def test_value_alone(surrogate, algorithm):
    preds_S, preds_T = draw(2, 50)
    losses, _ = triton_cuda.rank_loss(preds_S, preds_T, 5.0, surrogate, True, algorithm=algorithm)
    alone, grad = triton_cuda.rank_loss(
        preds_S, preds_T, 5.0, surrogate, False, algorithm=algorithm
    )
    assert torch.equal(losses, alone)
    assert grad.numel() == 0


@pytest.mark.parametrize(('surrogate', 'algorithm'), CASES)
@pytest.mark.parametrize('shape', [(1, 2), (3, 37)])
def test_average(shape, surrogate, algorithm):
    preds = draw(*shape)
    options = {'algorithm': algorithm}
    losses, grad = triton_cuda.rank_loss(*preds, 5.0, surrogate, True, **options)
    mean, mean_grad = triton_cuda.rank_loss(*preds, 5.0, surrogate, True, average=True, **options)
    torch.testing.assert_close(mean, losses.double().mean().float(), rtol=0, atol=1e-7)
    torch.testing.assert_close(mean_grad, grad / shape[0], rtol=1e-6, atol=1e-12)
    alone, nothing = triton_cuda.rank_loss(*preds, 5.0, surrogate, False, average=True, **options)
    assert torch.equal(mean, alone)
    assert nothing.numel() == 0


@pytest.mark.parametrize(('surrogate', 'algorithm'), CASES)
@pytest.mark.parametrize('average', [False, True])
def test_gradient_alone(average, surrogate, algorithm):
    preds_S, preds_T = draw(3, 37)
    preds_S[1, 3] = float('nan')
    options = {'average': average, 'algorithm': algorithm}
    _, grad = triton_cuda.rank_loss(preds_S, preds_T, 5.0, surrogate, True, **options)
    zeros, alone = triton_cuda.rank_loss(
        preds_S, preds_T, 5.0, surrogate, True, compute_value=False, **options
    )
    assert torch.equal(alone.nan_to_num(7), grad.nan_to_num(7))
    expected = torch.tensor([0.0, float('nan'), 0.0], device=DEVICE)
    torch.testing.assert_close(
        zeros, expected.mean() if average else expected, rtol=0, atol=0, equal_nan=True
    )


def test_window_by_itself_for_many_classes():
    check(*draw(1, 520), 100.0, 'product', 'auto')


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_through_the_public_function(dtype):
    preds_S, preds_T = (preds.to(dtype).mT for preds in draw(20, 6))
    preds_S = preds_S.detach().requires_grad_()
    loss = kendall_rank_loss(preds_S, preds_T, 2.0, backend='triton')
    exact = preds_S.detach().double().requires_grad_()
    expected = kendall_rank_loss(exact, preds_T.double(), 2.0, backend='reference')
    (grad,), (expected_grad,) = (
        torch.autograd.grad(*pair) for pair in ((loss, preds_S), (expected, exact))
    )
    torch.testing.assert_close(loss.double(), expected, rtol=0, atol=1e-6)
    assert grad.dtype == dtype
    torch.testing.assert_close(
        grad.double(), expected_grad, rtol=max(1e-5, torch.finfo(dtype).eps), atol=1e-7
    )


@pytest.mark.parametrize(('surrogate', 'algorithm'), CASES)
@pytest.mark.parametrize('average', [False, True])
def test_a_row_that_is_not_finite_harms_no_other(average, surrogate, algorithm):
    preds_S, preds_T = draw(5, 40)
    clean, clean_grad = triton_cuda.rank_loss(
        preds_S, preds_T, 2.0, surrogate, True, algorithm=algorithm
    )
    preds_S[1, 3], preds_S[2, 7], preds_T[3, 5] = float('nan'), -float('inf'), float('inf')
    losses, grad = triton_cuda.rank_loss(
        preds_S, preds_T, 2.0, surrogate, True, average=average, algorithm=algorithm
    )
    assert grad[1:4].isnan().all()
    if average:
        assert losses.isnan()
        torch.testing.assert_close(grad[::4], clean_grad[::4] / 5, rtol=1e-6, atol=1e-12)
    else:
        assert losses.isnan().tolist() == [False, True, True, True, False]
        assert torch.equal(losses[::4], clean[::4])
        assert torch.equal(grad[::4], clean_grad[::4])


def check_gaps(rows, steepness, surrogate, algorithm, average):
    """Rows with classes that do not count, against each row's definition on those that do."""
    student, teacher, class_mask, counts = rows
    student, teacher = student.float(), teacher.float()
    if class_mask is not None:
        student, teacher = (preds.masked_fill(~counts, -math.inf) for preds in (student, teacher))
    # A student's own minus infinity is wrong, which another test looks at.
    student = student.masked_fill((student == -math.inf) & (teacher != -math.inf), 0)
    exact = student.double().requires_grad_()
    losses = [
        row_definition(*each, steepness, surrogate, {})
        for each in zip(exact, teacher.double(), counts, strict=True)
    ]
    with_pairs = ((student != -math.inf) | (teacher != -math.inf)).sum(1) > 1
    losses = torch.stack(losses)
    expected = losses.sum() / max(int(with_pairs.sum()), 1) if average else losses
    (expected_grad,) = torch.autograd.grad(expected.sum(), exact)
    found, grad = triton_cuda.rank_loss(
        *(preds.to(DEVICE) for preds in (student, teacher)),
        *(steepness, surrogate, True),
        average=average,
        algorithm=algorithm,
    )
    assert (found.cpu() - expected.detach()).abs().max() <= 1e-6
    assert not grad.cpu()[(student == -math.inf) & (teacher == -math.inf)].any()
    bound = 1e-5 * expected_grad.norm() + 1e-9 * steepness
    assert (grad.cpu() - expected_grad).norm() <= bound


@pytest.mark.parametrize(('surrogate', 'algorithm'), CASES)
@DRAWN
@given(
    rows=rows_with_gaps(),
    steepness=st.sampled_from([1.0, 30.0]),
    average=st.booleans(),
)
def test_classes_that_do_not_count(surrogate, algorithm, rows, steepness, average):
    if rows[0].shape[1] > 1:
        check_gaps(rows, steepness, surrogate, algorithm, average)


def rows_of_all_sizes(num_classes):
    """Six rows of which all, most, half, few, one and none of the classes count."""
    student, teacher = draw(6, num_classes).cpu()
    kept = torch.rand(6, num_classes, generator=torch.Generator().manual_seed(3))
    counts = kept < torch.tensor([1.1, 0.95, 0.5, 0.1, 0.0, 0.0])[:, None]
    counts[4, 7] = True
    teacher[1, 5:9] = -math.inf
    return student, teacher, counts, counts


@pytest.mark.parametrize(('surrogate', 'algorithm'), CASES)
def test_gaps_in_several_blocks(surrogate, algorithm):
    num_classes = 600 if DEVICE == 'cuda' else 150
    assert triton_cuda._circle(6, num_classes)[0] > 4
    for steepness in (0.5, 20.0):
        check_gaps(rows_of_all_sizes(num_classes), steepness, surrogate, algorithm, True)


def test_gaps_that_the_kernel_sorts(monkeypatch):
    monkeypatch.setattr(triton_cuda, 'SORTED_CLASSES', SORTED_CLASSES)
    num_classes = 600 if DEVICE == 'cuda' else 20
    for average in (False, True):
        check_gaps(rows_of_all_sizes(num_classes), 3.0, 'product', 'window', average)


@pytest.mark.parametrize('surrogate', SURROGATES)
def test_gradient_of_a_teacher_with_gaps(surrogate):
    student, teacher = draw(4, 9)
    student[0, :3] = teacher[0, :5] = -math.inf
    student[1, 2] = -math.inf  # alone, which is wrong
    found, expected = [], []
    for results, backend in ((found, 'triton'), (expected, 'eager')):
        teacher_logits = teacher.clone().requires_grad_()
        options = {'reduction': 'none', 'backend': backend}
        losses = kendall_rank_loss(student, teacher_logits, 2.0, surrogate, **options)
        results += [losses, *torch.autograd.grad(losses.sum(), teacher_logits)]
    assert found[0].isnan().tolist() == [False, True, False, False]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6, equal_nan=True)


@pytest.fixture
def fresh_checks(monkeypatch):
    for name in ('_passed', '_failed'):
        monkeypatch.setattr(self_check, name, type(getattr(self_check, name))())


@triton.jit
def finish_wrongly(losses):
    """Stores a loss that is not the one, and no gradient."""
    tl.store(losses + tl.program_id(0), 0.123)


@triton.jit
def finish_that_does_not_compile(losses):
    tl.store(losses, a_name_that_is_not_there)  # noqa: F821


class Launched:
    """Launches a kernel that wants the losses alone where ``finish`` is launched."""

    def __init__(self, kernel):
        self.kernel = kernel

    def __getitem__(self, grid):
        return lambda totals, rows, columns, losses, *rest, **options: self.kernel[grid](losses)


def kind_of(surrogate, algorithm):
    return 'triton', algorithm, DEVICE, surrogate


@pytest.mark.parametrize(('surrogate', 'algorithm'), CASES)
@pytest.mark.parametrize('steepness', [10.0])
@pytest.mark.filterwarnings('error:kendall_rank_loss')
def test_right_kernels_pass_their_check(surrogate, algorithm, steepness, fresh_checks):
    kind, state = kind_of(surrogate, algorithm), torch.random.get_rng_state()
    assert self_check.passes(kind, triton_cuda, steepness, torch.device(DEVICE))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not self_check.failures()


@pytest.mark.parametrize(
    ('kernel', 'words'),
    [
        (finish_wrongly, 'its loss is off by'),
        (finish_that_does_not_compile, 'a_name_that_is_not_there'),
    ],
)
@pytest.mark.parametrize('algorithm', ['dense', 'window'])
def test_wrong_kernels_are_left_out(algorithm, kernel, words, fresh_checks, monkeypatch):
    monkeypatch.setattr(triton_kernels, 'finish', Launched(kernel))
    device, kind = torch.device(DEVICE), kind_of('product', algorithm)
    with pytest.warns(RuntimeWarning, match=words) as caught:
        assert not self_check.passes(kind, triton_cuda, 1.0, device)
    ours = [str(warning.message) for warning in caught if 'left out' in str(warning.message)]
    assert len(ours) == 1
    assert 'torch operations' in ours[0]
    with warnings.catch_warnings():
        warnings.filterwarnings('error', message='kendall_rank_loss')
        assert not self_check.passes(kind, triton_cuda, 1.0, device)


@pytest.mark.parametrize('off', [1e-3, float('nan')])
def test_a_wrong_gradient_is_found(off, fresh_checks, monkeypatch):
    right = triton_cuda._finish

    def wrong(*arguments):
        losses, grad = right(*arguments)
        return losses, grad * (1 + off)

    monkeypatch.setattr(triton_cuda, '_finish', wrong)
    with pytest.warns(RuntimeWarning, match='its gradient is off by'):
        assert not self_check.passes(
            kind_of('product', 'dense'), triton_cuda, 1.0, torch.device(DEVICE)
        )


ON_CUDA = pytest.mark.skipif(DEVICE == 'cpu', reason='for a GPU')


@ON_CUDA
@pytest.mark.parametrize(('surrogate', 'algorithm'), CASES)
@pytest.mark.parametrize('shape', [(64, 100), (16, 1000), (2, 5000)])
@pytest.mark.parametrize('average', [False, True])
def test_captured_in_a_graph(average, shape, surrogate, algorithm):
    preds_S, preds_T = draw(*shape)

    def run():
        return triton_cuda.rank_loss(
            preds_S, preds_T, 10.0, surrogate, True, average=average, algorithm=algorithm
        )

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # compiles, and lets the allocator settle
        run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = run()
    preds_S.copy_(draw(*shape, seed=1)[0])
    graph.replay()
    for found, expected in zip(captured, run(), strict=True):
        assert torch.equal(found, expected)


@ON_CUDA
@pytest.mark.parametrize(('surrogate', 'algorithm'), CASES)
@pytest.mark.parametrize('shape', [(8, 2000), (256, 1000), (64, 2048), (8, 21_841), (100_000, 19)])
def test_the_same_bits_every_time(shape, surrogate, algorithm):
    preds = draw(*shape)
    options = {'average': True, 'algorithm': algorithm}
    loss, grad = triton_cuda.rank_loss(*preds, 10.0, surrogate, True, **options)
    for _ in range(5):
        again = triton_cuda.rank_loss(*preds, 10.0, surrogate, True, **options)
        assert torch.equal(again[0], loss)
        assert torch.equal(again[1], grad)


@ON_CUDA
@pytest.mark.parametrize('algorithm', ['dense', 'window'])
@pytest.mark.parametrize('steepness', [1.0, 10.0, 100.0])
@pytest.mark.parametrize('shape', [(100, 1000), (37, 1111), (3, 2049)])
def test_definition_at_real_sizes(shape, steepness, algorithm):
    check(*draw(*shape), steepness, 'product', algorithm)


@ON_CUDA
@pytest.mark.parametrize('num_classes', [21_841, 128_256, 262_144])
@pytest.mark.parametrize('steepness', [1.0, 100.0])
def test_many_classes(num_classes, steepness):
    preds_S, preds_T = draw(2, num_classes)
    losses, grad = triton_cuda.rank_loss(preds_S, preds_T, steepness, 'product', True)
    some = torch.arange(0, num_classes, num_classes // 64, device=DEVICE)
    exact_S, exact_T = preds_S.double(), preds_T.double()
    ordering = torch.tanh(steepness * (exact_S[:, some, None] - exact_S[:, None, :]))
    weight = torch.tanh(steepness * (exact_T[:, some, None] - exact_T[:, None, :]))
    pairs = num_classes * (num_classes - 1)
    expected = -2 * steepness / pairs * (weight * (1 - ordering**2)).sum(dim=2)
    assert (grad[:, some] - expected).norm() <= 1e-5 * expected.norm()
    blocks = torch.arange(num_classes, device=DEVICE).split(64)
    total = torch.zeros(2, dtype=torch.float64, device=DEVICE)
    for block in blocks:
        total += (
            torch.tanh(steepness * (exact_S[:, block, None] - exact_S[:, None, :]))
            * torch.tanh(steepness * (exact_T[:, block, None] - exact_T[:, None, :]))
        ).sum(dim=(1, 2))
    assert (losses - (1 - total / pairs)).abs().max() <= 1e-6


@ON_CUDA
@pytest.mark.parametrize('surrogate', SURROGATES)
def test_auto_checks_and_goes_on_with_torch(surrogate, fresh_checks, monkeypatch):
    preds = draw(8, 100)
    right = kendall_rank_loss(*preds, 2.0, surrogate)
    assert {kind[0] for kind in self_check._passed} == {'triton'}
    monkeypatch.setattr(self_check, '_passed', set())
    monkeypatch.setattr(triton_kernels, 'finish', Launched(finish_wrongly))
    with pytest.warns(RuntimeWarning, match='its loss is off by'):
        found = kendall_rank_loss(*preds, 2.0, surrogate)
    torch.testing.assert_close(found, right, rtol=0, atol=1e-6)

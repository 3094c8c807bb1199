"""Every backend and every algorithm in it against the definition in float64."""

import math
import multiprocessing
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from mmkendall import kendall_rank_loss
from mmkendall.functional.backends import BACKENDS, choose_backend, eager, logistic, numba_cpu
from mmkendall.functional.rank_loss import SURROGATES
from tests.test_functional.drawn import (
    LAYOUTS,
    SIZES,
    STEEPNESS,
    assert_close,
    check_function,
    definition,
    logits,
    needs_numba,
)

ALGORITHMS = [('eager', name) for name in ('auto', 'tiles', 'window', 'waves', 'sorted')]
ALGORITHMS += [('numba', name) for name in ('auto', *numba_cpu.ALGORITHMS)]

both = pytest.mark.parametrize(
    ('backend', 'algorithm'),
    [
        pytest.param(*pair, id='-'.join(pair), marks=[needs_numba] * (pair[0] == 'numba'))
        for pair in ALGORITHMS
    ],
)


def takes(backend, algorithm, preds_S, preds_T, steepness, surrogate):
    """Whether a forced algorithm can take this input."""
    if algorithm != 'auto' and (algorithm == 'sorted') != (surrogate == 'logistic'):
        return False
    if algorithm == 'window':
        return surrogate != 'diffkendall'
    if algorithm in ('grid', 'waves'):
        logits = [preds.double() for preds in (preds_S, preds_T)]
        ranges = [steepness * (rows.amax(1) - rows.amin(1)) for rows in logits]
        narrow, wide = min(r.min() for r in ranges), max(r.max() for r in ranges)
        double = preds_S.dtype == torch.float64
        if surrogate != 'product' or (double and algorithm != 'waves'):
            return False
        widest = {'grid': 290, 'waves': 4 if double else 40}
        return narrow >= 0.5 and wide <= widest[algorithm]
    return True


@both
@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    pair=logits(),
    steepness=st.sampled_from(STEEPNESS),
    surrogate=st.sampled_from(SURROGATES),
)
def test_equals_the_definition(backend, algorithm, pair, steepness, surrogate):
    preds_S, preds_T = pair
    if not takes(backend, algorithm, preds_S, preds_T, steepness, surrogate):
        return
    run = BACKENDS[backend].rank_loss
    expected = definition(preds_S, preds_T, steepness, surrogate)
    result = run(preds_S, preds_T, steepness, surrogate, True, algorithm=algorithm)
    assert result[0].dtype == result[1].dtype == preds_S.dtype
    assert_close(result, expected, steepness)

    losses, grad = run(preds_S, preds_T, steepness, surrogate, False, algorithm=algorithm)
    assert torch.equal(losses, result[0])
    assert grad.numel() == 0
    losses, grad = run(preds_S, preds_T, steepness, surrogate, True, False, algorithm=algorithm)
    assert not losses.any()
    assert torch.equal(grad, result[1])


@pytest.mark.parametrize('backend', ['eager', pytest.param('numba', marks=needs_numba)])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    pair=logits((*SIZES, 400), (torch.float16, torch.bfloat16, torch.float32, torch.float64)),
    layouts=st.tuples(*[st.sampled_from(sorted(LAYOUTS))] * 2),
    steepness=st.sampled_from(STEEPNESS),
    surrogate=st.sampled_from(SURROGATES),
)
def test_function_takes_all_dtypes_and_layouts(backend, pair, layouts, steepness, surrogate):
    check_function(pair, layouts, steepness, surrogate, backend)


@both
@pytest.mark.parametrize('steepness', STEEPNESS)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('surrogate', ['product', 'logistic'])
def test_many_classes(backend, algorithm, steepness, dtype, surrogate):
    """Enough classes for tiles, strips, chunks and groups of words to end in the middle."""
    torch.manual_seed(0)
    preds_S, preds_T = torch.randn(2, 2, 1037, dtype=dtype) * 2.5
    if not takes(backend, algorithm, preds_S, preds_T, steepness, surrogate):
        with pytest.raises(ValueError, match='algorithm'):
            BACKENDS[backend].rank_loss(
                preds_S, preds_T, steepness, surrogate, True, algorithm=algorithm
            )
        return
    expected = definition(preds_S, preds_T, steepness, surrogate)
    run = BACKENDS[backend].rank_loss
    result = run(preds_S, preds_T, steepness, surrogate, True, algorithm=algorithm)
    assert_close(result, expected, steepness)


@pytest.mark.parametrize('backend', ['eager', pytest.param('numba', marks=needs_numba)])
@pytest.mark.parametrize('steepness', STEEPNESS)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('num_classes', [2, 10, 100, 700])
@pytest.mark.parametrize('surrogate', ['product', 'logistic'])
def test_average_is_the_mean_and_its_gradient(backend, steepness, dtype, num_classes, surrogate):
    torch.manual_seed(0)
    preds_S, preds_T = torch.randn(2, 11, num_classes, dtype=dtype)
    arguments = (preds_S, preds_T, steepness, surrogate)
    losses, grad = BACKENDS[backend].rank_loss(*arguments, True)
    mean, mean_grad = BACKENDS[backend].rank_loss(*arguments, True, average=True)
    tolerance = dict(rtol=1e-6, atol=1e-9) if dtype == torch.float32 else dict(rtol=1e-12, atol=0)
    torch.testing.assert_close(mean, losses.mean(), **tolerance)
    torch.testing.assert_close(mean_grad, grad / 11, **tolerance)
    zero, mean_grad_alone = BACKENDS[backend].rank_loss(*arguments, True, False, True)
    assert zero == 0
    assert torch.equal(mean_grad_alone, mean_grad)


@needs_numba
@pytest.mark.parametrize('steepness', [20.0, 150.0])
@pytest.mark.parametrize('kind', ['plain', 'learnt', 'ties', 'cluster'])
@pytest.mark.parametrize('algorithm', ['window', 'grid'])
def test_thousands_of_classes(algorithm, kind, steepness):
    """Against float64, whose window the other tests hold to the definition."""
    torch.manual_seed(0)
    preds_S, preds_T = torch.randn(2, 1, 5003)
    if kind == 'learnt':
        preds_S = preds_T + preds_S / 100
    if kind == 'ties':
        preds_S, preds_T = ((rows * 20).round() / 20 for rows in (preds_S, preds_T))
    elif kind == 'cluster':
        preds_S, preds_T = preds_S / 20, preds_T / 20
        preds_S[0, 7], preds_T[0, 11] = 6.0, -6.0
    if algorithm == 'grid':  # Products of matrices and, at 20, line by line.
        steepness /= 7.5
    exact = numba_cpu.rank_loss(
        preds_S.double(), preds_T.double(), steepness, 'product', True, algorithm='window'
    )
    result = numba_cpu.rank_loss(preds_S, preds_T, steepness, 'product', True, algorithm=algorithm)
    assert_close(result, exact, steepness)


@both
def test_rejects_what_an_algorithm_cannot_take(backend, algorithm):
    if algorithm in ('auto', 'dense', 'tiles'):
        return
    preds = torch.randn(2, 30)
    with pytest.raises(ValueError, match='algorithm'):
        BACKENDS[backend].rank_loss(preds, preds, 1.0, 'diffkendall', True, algorithm=algorithm)


@pytest.mark.parametrize('backend', ['eager', pytest.param('numba', marks=needs_numba)])
def test_rejects_unknown_algorithm(backend):
    preds = torch.randn(2, 3)
    with pytest.raises(ValueError, match='algorithm'):
        BACKENDS[backend].rank_loss(preds, preds, 1.0, 'product', True, algorithm='fastest')


@pytest.mark.parametrize('backend', ['eager', pytest.param('numba', marks=needs_numba)])
@pytest.mark.parametrize('surrogate', SURROGATES)
@pytest.mark.parametrize('num_classes', [1, 2, 300])
@pytest.mark.parametrize('bad', [math.nan, math.inf, -math.inf])
def test_bad_rows_are_nan_and_spare_the_others(backend, surrogate, num_classes, bad):
    torch.manual_seed(0)
    preds_S, preds_T = torch.randn(2, 4, num_classes)
    preds_S[1, -1] = bad
    # The teacher's own minus infinity is a last class: see test_classes.
    preds_T[3, 0] = bad if bad != -math.inf else math.nan
    preds_S.requires_grad_()
    for steepness in (1.0, 100.0):
        losses = kendall_rank_loss(preds_S, preds_T, steepness, surrogate, 'none', backend=backend)
        assert losses.isnan().tolist() == [False, True, False, True]
        (grad,) = torch.autograd.grad(losses.sum(), preds_S)
        assert grad[[0, 2]].isfinite().all()


@needs_numba
@pytest.mark.parametrize('surrogate', SURROGATES)
def test_threads_share_the_rows(surrogate, monkeypatch):
    monkeypatch.setattr(numba_cpu, 'MIN_SECONDS_FOR_THREADS', 0.0)
    torch.manual_seed(0)
    preds_S, preds_T = torch.randn(2, 37, 50)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(numba_cpu.rank_loss(preds_S, preds_T, 5.0, surrogate, True))
    finally:
        torch.set_num_threads(before)
    # Rows that are worked on together round their sums alike; the threads divide them otherwise.
    for one, three in zip(*results, strict=True):
        torch.testing.assert_close(one, three, rtol=2e-6, atol=1e-8)


def _loss_in_child(connection, preds_S, preds_T):
    connection.send(float(numba_cpu.rank_loss(preds_S, preds_T, 5.0, 'product', True)[0].sum()))


@needs_numba
@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork on this system')
@pytest.mark.filterwarnings('ignore:.*fork.*:DeprecationWarning')
def test_runs_in_a_forked_process(monkeypatch):
    monkeypatch.setattr(numba_cpu, 'MIN_SECONDS_FOR_THREADS', 0.0)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 2)
    torch.manual_seed(0)
    preds_S, preds_T = torch.randn(2, 8, 50)
    expected = float(numba_cpu.rank_loss(preds_S, preds_T, 5.0, 'product', True)[0].sum())
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context('fork').Process(
        target=_loss_in_child, args=(theirs, preds_S, preds_T), daemon=True
    )
    child.start()
    assert ours.poll(60), 'the forked process hangs'
    assert ours.recv() == expected
    child.join(10)


@needs_numba
@pytest.mark.parametrize('surrogate', SURROGATES)
def test_auto_takes_numba_on_the_cpu(surrogate):
    assert choose_backend('auto', torch.device('cpu'), torch.float32, 10, surrogate) == 'numba'


def test_auto_takes_torch_on_cuda_where_the_kernels_do_not_serve():
    cuda = torch.device('cuda')
    assert choose_backend('auto', cuda, torch.float64, 10, 'product') == 'eager'
    assert choose_backend('auto', cuda, torch.float32, 300_000, 'logistic') == 'eager'
    with pytest.raises(RuntimeError, match=r'Triton is not|262144 classes at most'):
        choose_backend('triton', cuda, torch.float32, 300_000, 'logistic')


@pytest.mark.parametrize(
    ('num_classes', 'steepness', 'surrogate', 'of_sines'),
    [
        (120_000, 1.0, 'product', True),
        (120_000, 10.0, 'product', False),
        (90_000, 1.0, 'product', False),
        (120_000, 1.0, 'diffkendall', False),
    ],
)
def test_few_sines_beat_all_pairs_of_very_many_classes(
    num_classes, steepness, surrogate, of_sines
):
    student, teacher = torch.randn(2, 2, num_classes)
    options = steepness, surrogate
    assert eager.beats_all_pairs(student, teacher, *options) == of_sines
    # The kernels count classes and know NaN; a row without spread has no sines.
    student[1, 5] = -math.inf
    assert not eager.beats_all_pairs(student, teacher, *options)
    assert not eager.beats_all_pairs(teacher, torch.zeros_like(teacher), *options)


@pytest.mark.parametrize('allowed', ['highest', 'high', 'medium'])
def test_sines_are_multiplied_in_full_precision(allowed):
    """TF32 and bfloat16 would cost the loss its digits, on a GPU and on some processors."""

    class Products(TorchDispatchMode):
        seen = ()

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function is torch.ops.aten.bmm.default:
                self.seen += (precision_of_products(),)
            return function(*args, **(kwargs or {}))

    torch.set_float32_matmul_precision(allowed)
    try:
        told = precision_of_products()
        with Products() as products:
            eager.rank_loss(*torch.randn(2, 2, 300), 1.0, 'product', True, algorithm='waves')
        assert precision_of_products() == told
    finally:
        torch.set_float32_matmul_precision('highest')
    assert set(products.seen) <= {'highest', ('ieee', 'ieee')}
    assert len(products.seen) == 2


def precision_of_products() -> str | tuple[str, str]:
    """That of CUDA and of oneDNN where this torch knows them apart."""
    if hasattr(torch.backends, 'fp32_precision'):
        return tuple(
            getattr(torch.backends, of).matmul.fp32_precision for of in ('cuda', 'mkldnn')
        )
    return torch.get_float32_matmul_precision()


def test_auto_falls_back_without_numba(monkeypatch):
    monkeypatch.setattr(numba_cpu, '_import_problem', lambda: 'Numba is not there')
    device = torch.device('cpu')
    assert choose_backend('auto', device, torch.float32, 10, 'product') == 'eager'
    with pytest.raises(RuntimeError, match='Numba is not there'):
        choose_backend('numba', device, torch.float32, 10, 'product')


@needs_numba
def test_code_on_disk_is_that_of_all_its_sources():
    """A function's code holds that of the functions it calls, which are in other files."""
    from mmkendall.functional.backends.numba_loops import basics, dense, grid, tau, window
    from mmkendall.functional.backends.numba_loops import logistic as logistic_loops

    for run in (
        *(logistic_loops.logistic_rows, tau.tau_b_rows, grid.product_rows),
        *(dense.product_rows, dense.hard_teacher_rows, dense.diffkendall_rows),
        *(window.product_rows, window.line_rows, window.hard_teacher_rows),
    ):
        assert run.py_func.__qualname__.endswith(f'_{basics.SOURCES}')


@needs_numba
@pytest.mark.parametrize('steepness', [0.3, 10.0, 12.1, 33.3])
def test_classes_where_strips_of_the_lines_meet(steepness):
    """A product of k and a logit is then a whole number, or rounded to one."""
    from mmkendall.functional.backends.numba_loops import pairs, window

    generator = torch.Generator().manual_seed(0)
    preds_T = torch.randint(40, (1, 700), generator=generator) / 4 * pairs.NEAR / steepness
    preds_S = torch.randn(1, 700, generator=generator) * 5 / steepness
    losses, grad = torch.empty(1), torch.empty(1, 700)
    window.line_rows(
        *(preds_S.numpy(), preds_T.numpy(), steepness, np.arange(1), True, True, 1.0),
        *(losses.numpy(), grad.numpy()),
    )
    assert_close((losses, grad), definition(preds_S, preds_T, steepness, 'product'), steepness)


def test_importing_the_package_leaves_numba_alone():
    code = 'import sys, mmkendall; sys.exit("numba" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0


@pytest.mark.parametrize(('is_double', 'share'), [(False, 6e-8), (True, 3e-15)])
def test_a_few_powers_are_the_logistic_function(is_double, share):
    z = torch.linspace(0, 1, 4001, dtype=torch.float64)
    weights = logistic.coefficients(logistic.TERMS[is_double])
    found = sum(weight * z**power for power, weight in enumerate(weights))
    assert (found * (1 + z) - 1).abs().max() < share


@needs_numba
@pytest.mark.parametrize('kind', ['plain', 'learnt', 'ties', 'constant', 'cluster'])
@pytest.mark.parametrize('steepness', [0.01, 1.0, 100.0])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_logistic_of_thousands_of_classes(kind, steepness, dtype):
    """Pair by pair, a few classes at a time, in float64."""
    torch.manual_seed(0)
    preds_S, preds_T = (torch.randn(2, 1, 3001) * 2.5).to(dtype)
    if kind == 'learnt':
        preds_S = preds_T + preds_S / 100
    elif kind == 'ties':
        preds_S, preds_T = ((rows * 20).round() / 20 for rows in (preds_S, preds_T))
    elif kind == 'constant':
        preds_S[0, 3:] = 0.25
    elif kind == 'cluster':
        preds_S = preds_S / 1000
        preds_S[0, 7] = 1e4
    student, teacher = preds_S[0].double(), preds_T[0].double()
    value, slope = 0.0, torch.empty_like(student)
    for part in torch.arange(3001).split(500):
        order = (teacher[part, None] - teacher).sign()
        wrong_by = -steepness * order * (student[part, None] - student)
        value += (torch.logaddexp(wrong_by, torch.zeros(())) * order.abs()).sum().item()
        slope[part] = -(torch.sigmoid(wrong_by) * order).sum(dim=1)
    pairs = 3001 * 3000
    expected = slope.new_tensor([value / pairs]), 2 * steepness / pairs * slope[None]
    for backend in (eager, numba_cpu):
        result = backend.rank_loss(preds_S, preds_T, steepness, 'logistic', True)
        assert_close(result, expected, steepness)


def test_eager_counts_inversions():
    torch.manual_seed(0)
    for num_classes in (1, 2, 5, 64, 100):
        ranks = torch.stack([torch.randperm(num_classes) for _ in range(3)])
        later = torch.ones(num_classes, num_classes).triu(1).bool()
        expected = ((ranks[:, :, None] > ranks[:, None, :]) & later).sum(dim=(1, 2))
        assert torch.equal(eager.count_inversions(ranks), expected)

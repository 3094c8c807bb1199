"""What holds for every loss of the package, and for its connectors: input of the odd kinds."""

from __future__ import annotations

import math
import warnings
from contextlib import nullcontext

import pytest
import torch
from mmengine.registry import MODELS
from mmrazor.registry import MODELS as MMRAZOR_MODELS
from torch import nn

from mmkendall.models import LogitStandardization, connectors, losses

CLASSES = 6
# Which take labels.
LABELLED = ('DKDLoss', 'PLDLoss')
# How a config builds each loss. A loss without an entry has no arguments that it needs.
ARGUMENTS = dict(
    DenseLogitLoss=dict(
        loss=dict(type='mmkendall.KendallRankLoss', steepness=2.0), num_classes=CLASSES
    ),
    KendallRankLoss=dict(steepness=2.0),
    SelectClasses=dict(classes=[4, 0, 3, 1, 2]),
)
VARIANTS = [(name, {}) for name in losses.__all__] + [
    ('KendallRankLoss', dict(across='batch')),
    ('KendallRankLoss', dict(surrogate='diffkendall', topk=0.5)),
    ('KendallRankLoss', dict(surrogate='hard_teacher', standardize=True, reduction='sum')),
    ('KendallRankLoss', dict(surrogate='logistic')),
    ('KendallRankLoss', dict(surrogate='logistic', across='batch', mink=0.5)),
    ('KendallRankLoss', dict(backend='eager')),
    ('KendallRankLoss', dict(backend='reference')),
    ('DKDLoss', dict(reduction='sum')),
    ('KDLoss', dict(temperature_S=2.0, temperature_T=0.5, reduction='sum')),
    ('PLDLoss', dict(temperature=4.0, topk=3)),
    ('ListMLELoss', dict(topk=3, reduction='sum')),
    ('WTTMLoss', dict(temperature=1.0, reduction='sum')),
    ('BiLDLoss', dict(topk=3, reduction='sum')),
    ('PearsonLoss', dict(intra_weight=0.0)),
    ('DenseLogitLoss', dict(num_positions=3)),
    ('DenseLogitLoss', dict(loss=dict(type='mmrazor.KLDivergence', tau=2))),
    ('DenseLogitLoss', dict(loss=dict(type='mmkendall.CTKDLoss'))),
    ('DenseLogitLoss', dict(loss=dict(type='mmkendall.PLDLoss'), num_positions=4)),
]
every_loss = pytest.mark.parametrize(
    ('name', 'options'), VARIANTS, ids=[f'{name}-{options}' for name, options in VARIANTS]
)


def build(name: str, options: dict) -> nn.Module:
    entry = dict(type=f'mmkendall.{name}', **{**ARGUMENTS.get(name, {}), **options})
    return (MMRAZOR_MODELS if name == 'DenseLogitLoss' else MODELS).build(entry)


def inputs(name: str, rows: int, classes: int = CLASSES, dtype: torch.dtype = torch.float32):
    """Logits of student and teacher, and the labels of the losses that take them."""
    shape = (rows, classes, 2, 3) if name == 'DenseLogitLoss' else (rows, classes)
    student, teacher = (3 * torch.randn(2, *shape)).to(dtype).unbind()
    labels = (torch.randint(classes, (rows,)),) if name in LABELLED else ()
    return student.requires_grad_(), teacher, *labels


def half_autocast(dtype: torch.dtype) -> torch.autocast:
    """Autocast on a CPU, which an old torch knows in bfloat16 alone."""
    old = tuple(map(int, torch.__version__.split('.')[:2])) < (2, 1)
    return torch.autocast('cpu', dtype=torch.bfloat16 if old else dtype)


@every_loss
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
def test_no_rows_give_zero_and_finite_gradients(name, options, dtype):
    loss = build(name, options)
    arguments = inputs(name, 0, dtype=dtype)
    # As behind a head: what reaches its weights must be zeros, not nothing.
    head = nn.Linear(CLASSES, CLASSES).to(dtype)
    moved = head(arguments[0].movedim(1, -1)).movedim(-1, 1)
    value = loss(moved, *arguments[1:])
    assert value.shape == ()
    assert value.item() == 0
    value.backward()
    for parameter in (*head.parameters(), *loss.parameters()):
        assert parameter.grad is not None
        assert (parameter.grad == 0).all()


@pytest.mark.parametrize(
    'name',
    ['KendallRankLoss', 'BiLDLoss', 'DKDLoss', 'KDLoss', 'ListMLELoss', 'PLDLoss', 'WTTMLoss'],
)
def test_no_rows_without_a_reduction(name):
    assert build(name, dict(reduction='none'))(*inputs(name, 0)).shape == (0,)
    across = build('KendallRankLoss', dict(reduction='none', across='batch'))
    assert across(*inputs('KendallRankLoss', 0)).tolist() == [0] * CLASSES


def test_an_image_map_without_places():
    loss = build(
        'DenseLogitLoss', dict(loss=dict(type='mmrazor.KLDivergence', tau=1), num_positions=2)
    )
    student = torch.randn(2, CLASSES, 0, 4, requires_grad=True)
    value = loss(student, torch.randn(2, CLASSES, 0, 4))
    value.backward()
    assert value.item() == 0


@pytest.mark.parametrize('name', losses.__all__)
def test_one_class_ends_the_run(name):
    """Rather than a loss of 0 from the first to the last iteration."""
    with pytest.raises(ValueError, match=r'(?s)one class|num_classes=1.*0 for ever'):
        build(name, dict(num_classes=1) if name == 'DenseLogitLoss' else {})(
            *inputs(name, 4, classes=1)
        )


@pytest.mark.parametrize('options', [dict(dim=-1), dict(dim=1), dict(surrogate='hard_teacher')])
def test_the_ranking_loss_of_one_class_names_the_mend(options):
    with pytest.raises(ValueError, match=r"\(4, 1\) have one class.*set dim.*across='batch'"):
        build('KendallRankLoss', options)(*inputs('KendallRankLoss', 4, classes=1))
    # Which does rank something.
    student, teacher = inputs('KendallRankLoss', 4, classes=1)
    build('KendallRankLoss', dict(across='batch'))(student, teacher).backward()
    assert (student.grad != 0).any()


@pytest.mark.parametrize(
    'kind', ['mmrazor.KLDivergence', 'mmrazor.DISTLoss', 'mmkendall.CTKDLoss']
)
def test_a_dense_head_of_one_class_is_refused_when_built(kind):
    with pytest.raises(ValueError, match=r'num_classes=1 leaves \w+ nothing .*sigmoid'):
        build('DenseLogitLoss', dict(loss=dict(type=kind), num_classes=1))
    build('DenseLogitLoss', dict(loss=dict(type='mmrazor.L2Loss'), num_classes=1))


@pytest.mark.parametrize('option', ['topk', 'mink'])
def test_one_ranked_class_is_refused_when_built(option):
    with pytest.raises(ValueError, match=f'{option}=1 ranks one class.*pass 2 at least'):
        build('KendallRankLoss', {option: 1})


def test_what_can_hardly_be_meant_is_warned_of():
    with pytest.warns(UserWarning, match='two classes.*pass standardize=False'):
        build('KendallRankLoss', dict(standardize=True))(*torch.randn(2, 3, 2))
    with pytest.warns(UserWarning, match='two classes in dim=1.*leave it out'):
        LogitStandardization()(torch.randn(3, 2))
    with pytest.warns(UserWarning, match='a batch of one image'):
        build('KendallRankLoss', dict(across='batch'))(*torch.randn(2, 1, 5))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        build('KendallRankLoss', dict(standardize=True))(*torch.randn(2, 3, 3))
        build('KendallRankLoss', dict(across='batch'))(*torch.randn(2, 2, 5))


@pytest.mark.parametrize('name', sorted(set(losses.__all__) - {'DenseLogitLoss'}))
@pytest.mark.parametrize('weight', [-1.0, math.nan, math.inf, '0.9'])
def test_a_weight_that_is_none_is_refused_when_built(name, weight):
    with pytest.raises(ValueError, match='loss_weight must be 0 at least and finite, got'):
        build(name, dict(loss_weight=weight))


@every_loss
@pytest.mark.parametrize('scale', [1e-3, 1.0, 100.0])
def test_half_precision_is_raised(name, options, scale):
    """Value and gradient are those of the very logits in float32, autocast or not."""
    loss = build(name, options)
    student, teacher, *labels = inputs(name, 4)
    student, teacher = ((scale * logits.detach()).half() for logits in (student, teacher))

    def result(dtype):
        logits = student.to(dtype, copy=True).requires_grad_()
        value = loss(logits, teacher.to(dtype), *labels)
        value.backward()
        return value.detach(), logits.grad.float()

    expected, expected_grad = result(torch.float32)
    with half_autocast(torch.float16):
        under_autocast = result(torch.float16)
    for value, grad in (result(torch.float16), under_autocast):
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(grad, expected_grad, rtol=2e-3, atol=1e-6)


def with_a_masked_class(name: str, logits: torch.Tensor) -> torch.Tensor:
    """One class more, in the second place, that is minus infinity."""
    mask = torch.full_like(logits[:, :1], -math.inf)
    return torch.cat((logits[:, :1], mask, logits[:, 1:]), dim=1)


@pytest.mark.parametrize('name', sorted(set(losses.__all__) - {'DenseLogitLoss'}))
def test_a_masked_class_is_as_if_it_were_not_there(name):
    """Value and gradient, of the loss's own parameters too. MLKD's mean over classes apart."""
    student, teacher, *labels = inputs(name, 4)
    options = dict(class_weight=0) if name == 'MLKDLoss' else {}
    labels_of_more = [label + (label > 0) for label in labels]
    results = []
    for moved, *arguments in (
        (student, teacher, *labels),
        (with_a_masked_class(name, student), with_a_masked_class(name, teacher), *labels_of_more),
    ):
        loss = build(name, options)
        value = loss(moved, *arguments)
        grads = torch.autograd.grad(value, (student, *loss.parameters()))
        results.append((value.detach(), grads))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize(
    'name', ['CTKDLoss', 'DKDLoss', 'KDLoss', 'KendallRankLoss', 'MLKDLoss', 'PLDLoss', 'WTTMLoss']
)
def test_a_teacher_may_rule_a_class_out(name):
    student, teacher, *labels = inputs(name, 4)
    for label in labels:
        label.clamp_(min=2)
    teacher[:, 1] = -math.inf
    loss = build(name, {})
    value = loss(student, teacher, *labels)
    value.backward()
    assert value.isfinite()
    for tensor in (student, *loss.parameters()):
        assert tensor.grad.isfinite().all()
    almost = teacher.masked_fill(teacher == -math.inf, -1e4)
    torch.testing.assert_close(value, loss(student, almost, *labels))


# A connector that computes nothing has nothing to raise, and ranks have no gradient.
RAISING = [name for name in connectors.__all__ if name not in ('SelectClasses', 'OrderScores')]


@pytest.mark.parametrize('name', RAISING)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('spread', [0.0, 1e-4, 1.0, 300.0])
@pytest.mark.parametrize('autocast', [False, True])
def test_connectors_raise_half_precision(name, dtype, spread, autocast):
    connector = MODELS.build(dict(type=f'mmkendall.{name}'))
    logits = (spread * torch.randn(4, 10)).to(dtype)
    exact = connector(logits.double())
    logits.requires_grad_()
    with half_autocast(dtype) if autocast else nullcontext():
        result = connector(logits)
        divergence = nn.functional.kl_div(
            result.log_softmax(1), torch.full_like(result, 0.1), reduction='batchmean'
        )
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.double(), exact, rtol=1e-5, atol=1e-5)
    divergence.backward()
    assert divergence.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize('name', connectors.__all__)
def test_connectors_take_no_rows(name):
    connector = build(name, {})
    logits = torch.randn(0, 5, requires_grad=name != 'OrderScores')
    result = connector(logits)
    assert result.shape == (0, 5)
    if logits.requires_grad:
        result.sum().backward()


def test_masked_classes_stay_out_of_the_z_scores():
    logits = torch.randn(3, 7)
    logits[:, 2] = logits[0, 5] = -math.inf
    result = LogitStandardization()(logits)
    for row, scores in zip(logits, result, strict=True):
        kept = row > -math.inf
        torch.testing.assert_close(scores[kept], LogitStandardization()(row[None, kept])[0])
        assert (scores[~kept] == -math.inf).all()


@pytest.mark.parametrize('constant', [0.1, 300.1, 10_000.3])
def test_a_constant_row_becomes_zeros_whatever_it_is(constant):
    assert not LogitStandardization()(torch.full((2, 1000), constant)).any()

"""The losses on probabilities: their definitions in float64, and the modules that configs name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from mmrazor.models.losses import DISTLoss, KLDivergence

from mmkendall.functional import (
    bild_loss,
    ctkd_loss,
    dist_loss,
    dkd_loss,
    kd_loss,
    listmle_loss,
    mlkd_loss,
    pearson_loss,
    pld_loss,
    standardize,
    wttm_loss,
)

SHAPES = [(1, 2), (5, 7), (8, 100)]
LABELLED = (dkd_loss, pld_loss)
LOSSES = (
    *(bild_loss, ctkd_loss, dist_loss, dkd_loss, kd_loss, listmle_loss),
    *(mlkd_loss, pearson_loss, pld_loss, wttm_loss),
)
MODULES = {
    bild_loss: 'BiLDLoss',
    ctkd_loss: 'CTKDLoss',
    dkd_loss: 'DKDLoss',
    kd_loss: 'KDLoss',
    listmle_loss: 'ListMLELoss',
    mlkd_loss: 'MLKDLoss',
    pearson_loss: 'PearsonLoss',
    pld_loss: 'PLDLoss',
    wttm_loss: 'WTTMLoss',
}


def draw(shape, dtype=torch.float64):
    """Logits of student and teacher, and labels."""
    preds = 3 * torch.randn(2, *shape, dtype=torch.float64)
    return (*preds.to(dtype).unbind(), torch.randint(shape[1], shape[:1]))


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    """KL(p || q) of one row."""
    return float((p * np.log(p / q)).sum())


def dkd_by_hand(student, teacher, labels, temperature=4.0, alpha=1.0, beta=8.0):
    rows = []
    for s, t, label in zip(student.numpy(), teacher.numpy(), labels.tolist(), strict=True):
        p_S, p_T = softmax(s / temperature), softmax(t / temperature)
        binary = [np.array([p[label], 1 - p[label]]) for p in (p_T, p_S)]
        others = [np.delete(p, label) / (1 - p[label]) for p in (p_T, p_S)]
        rows.append(alpha * divergence(*binary) + beta * divergence(*others))
    return temperature**2 * np.array(rows)


def kd_by_hand(student, teacher, temperature, of_teacher=None):
    rows = [
        divergence(softmax(t / (of_teacher or temperature)), softmax(s / temperature))
        for s, t in zip(student.numpy(), teacher.numpy(), strict=True)
    ]
    return temperature**2 * np.mean(rows)


def mlkd_by_hand(student, teacher, temperatures):
    total = 0.0
    for temperature in temperatures:
        total += kd_by_hand(student, teacher, temperature)
        p_S, p_T = (softmax(preds.numpy() / temperature) for preds in (student, teacher))
        total += np.square(p_T @ p_T.T - p_S @ p_S.T).sum() / p_S.shape[0]
        total += np.square(p_T.T @ p_T - p_S.T @ p_S).sum() / p_S.shape[1]
    return total


@pytest.mark.parametrize('shape', SHAPES)
def test_dkd(shape):
    student, teacher, labels = draw(shape)
    expected = dkd_by_hand(student, teacher, labels, 2.0, 0.5, 3.0)
    found = dkd_loss(student, teacher, labels, 2.0, 0.5, 3.0, reduction='none')
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-9)
    assert dkd_loss(student, teacher, labels, 2.0, 0.5, 3.0).item() == pytest.approx(
        expected.mean(), rel=1e-9
    )


def test_dkd_of_a_unanimous_teacher():
    """Of its term on the label nothing but the student's probability is left; the other is 0."""
    student, teacher, labels = draw((3, 6))
    labels[:] = torch.tensor([2, 0, 5])
    teacher[1, 1:] = -torch.inf
    student.requires_grad_()
    found = dkd_loss(student, teacher, labels, 2.0, 0.5, 3.0, reduction='none')
    found.sum().backward()
    rows = student.detach()
    expected = dkd_by_hand(rows[::2], teacher[::2], labels[::2], 2.0, 0.5, 3.0)
    assert found[::2].tolist() == pytest.approx(expected.tolist(), rel=1e-9)
    p_S = softmax(rows[1].numpy() / 2)
    assert found[1].item() == pytest.approx(4 * 0.5 * -np.log(p_S[0]), rel=1e-9)
    slope = 2 * 0.5 * (p_S - np.eye(6)[0])
    np.testing.assert_allclose(student.grad[1], slope, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize('shape', SHAPES)
def test_ctkd(shape):
    student, teacher, _ = draw(shape)
    temperature = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    student.requires_grad_()
    loss = ctkd_loss(student, teacher, temperature, reversal=0.25)
    loss.backward()
    student = student.detach()
    assert loss.item() == pytest.approx(kd_by_hand(student, teacher, 3.0), rel=1e-9)
    slope = (kd_by_hand(student, teacher, 3.001) - kd_by_hand(student, teacher, 2.999)) / 0.002
    assert temperature.grad.item() == pytest.approx(-0.25 * slope, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('temperatures', [(4.0, 0.25), (2.0, None), (0.5, 8.0)])
def test_kd(shape, temperatures):
    student, teacher, _ = draw(shape)
    student.requires_grad_()
    loss = kd_loss(student, teacher, *temperatures)
    loss.backward()
    of_student, of_teacher = temperatures[0], temperatures[1] or temperatures[0]
    rows = student.detach()
    expected = kd_by_hand(rows, teacher, of_student, of_teacher)
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    # The gradient that the docstring states, at any temperature of the teacher.
    p_S, p_T = softmax(rows.numpy() / of_student), softmax(teacher.numpy() / of_teacher)
    np.testing.assert_allclose(
        student.grad, of_student * (p_S - p_T) / shape[0], rtol=1e-9, atol=1e-14
    )
    rows = [kd_loss(s[None], t[None], *temperatures) for s, t in zip(rows, teacher, strict=True)]
    torch.testing.assert_close(kd_loss(student, teacher, *temperatures, 'none'), torch.stack(rows))
    summed = kd_loss(student, teacher, *temperatures, 'sum').item()
    assert summed == pytest.approx(expected * shape[0], rel=1e-9)


def test_kd_at_high_temperatures_compares_logits():
    """Of a size that no temperature changes, with the teacher's in units of the student's."""
    student, teacher, _ = draw((3, 8))
    student, teacher = (rows - rows.mean(dim=1, keepdim=True) for rows in (student, teacher))
    for of_student in (1e5, 1e6):
        preds = student.clone().requires_grad_()
        kd_loss(preds, teacher, of_student, of_student / 20, 'sum').backward()
        torch.testing.assert_close(
            preds.grad, (student - 20 * teacher) / 8, rtol=0, atol=1e3 / of_student
        )


@pytest.mark.parametrize('temperature', [1.0, 4.0])
def test_kd_with_one_temperature_is_mmrazors(temperature):
    student, teacher, _ = draw((6, 9))
    theirs = KLDivergence(tau=temperature)(student, teacher)
    torch.testing.assert_close(kd_loss(student, teacher, temperature), theirs, rtol=1e-9, atol=0)
    both = kd_loss(student, teacher, temperature, temperature)
    assert torch.equal(both, kd_loss(student, teacher, temperature))


def test_kd_of_z_scores_gives_the_teacher_a_spread():
    """What the docstring says of temperature_T behind z-scores."""
    student, teacher, _ = draw((5, 30))
    spread, temperature = 3.0, 4.0
    rows = teacher.numpy()
    wide = spread * (rows - rows.mean(axis=1, keepdims=True)) / rows.std(axis=1, keepdims=True)
    expected = kd_by_hand(student, torch.from_numpy(wide), temperature)
    for scale in (1e-2, 1.0, 50.0):
        found = kd_loss(student, standardize(scale * teacher), temperature, temperature / spread)
        assert found.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize('reduction', ['none', 'mean', 'sum'])
def test_kd_of_a_class_that_the_teacher_rules_out(reduction):
    """It has probability 0 and adds nothing, in mmrazor's too; a row without any class is NaN."""
    student, teacher, _ = draw((4, 6))
    teacher[:, 2] = teacher[1, 4] = -torch.inf
    found = kd_loss(student, teacher, 4.0, 0.5, reduction)
    almost = teacher.masked_fill(teacher == -torch.inf, -1e6)
    torch.testing.assert_close(found, kd_loss(student, almost, 4.0, 0.5, reduction))
    assert KLDivergence(tau=4)(student, teacher).isfinite()
    teacher[3] = -torch.inf
    rows = kd_loss(student, teacher, reduction='none')
    assert rows.isnan().tolist() == [False, False, False, True]


@pytest.mark.parametrize('shape', SHAPES)
def test_mlkd(shape):
    student, teacher, _ = draw(shape)
    other, another, _ = draw(shape)
    expected = mlkd_by_hand(student, teacher, (2.0, 5.0)) + mlkd_by_hand(
        other, another, (2.0, 5.0)
    )
    views = torch.cat([student, other]), torch.cat([teacher, another])
    assert mlkd_loss(*views, (2.0, 5.0), num_views=2).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize('shape', [(5, 7), (8, 100)])
def test_dist(shape):
    student, teacher, _ = draw(shape)
    p_S, p_T = (softmax(preds.numpy() / 2) for preds in (student, teacher))
    inter = np.mean([1 - np.corrcoef(s, t)[0, 1] for s, t in zip(p_S, p_T, strict=True)])
    intra = np.mean([1 - np.corrcoef(s, t)[0, 1] for s, t in zip(p_S.T, p_T.T, strict=True)])
    found = dist_loss(student, teacher, 0.5, 2.0, 2.0)
    assert found.item() == pytest.approx(4 * (0.5 * inter + 2 * intra), rel=1e-5)
    theirs = DISTLoss(0.5, 2.0, tau=2.0)(student, teacher)
    torch.testing.assert_close(found, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('shape', [(5, 7), (8, 100)])
def test_pearson(shape):
    student, teacher, _ = draw(shape)
    inter, intra = (
        np.mean([1 - np.corrcoef(s, t)[0, 1] for s, t in zip(*pair, strict=True)])
        for pair in ((student.numpy(), teacher.numpy()), (student.numpy().T, teacher.numpy().T))
    )
    found = pearson_loss(student, teacher, 0.5, 2.0)
    assert found.item() == pytest.approx(0.5 * inter + 2 * intra, rel=1e-9)
    moved = pearson_loss(0.01 * student + 3, 50 * teacher - 2, 0.5, 2.0)
    torch.testing.assert_close(moved, found, rtol=1e-6, atol=0)


def test_pearson_is_of_what_counts():
    """A logit that is masked is left out of its row and out of its column."""
    student, teacher, _ = draw((5, 6))
    hidden = torch.zeros(5, 6, dtype=torch.bool)
    hidden[0, 1] = hidden[3, 1] = hidden[:, 4] = hidden[2, 1:] = True
    student[hidden] = teacher[hidden] = -torch.inf
    kept = ~hidden

    def mean(rows_S, rows_T, kept):
        found = [
            1 - np.corrcoef(s[k], t[k])[0, 1]
            for s, t, k in zip(rows_S.numpy(), rows_T.numpy(), kept.numpy(), strict=True)
            if k.sum() > 1
        ]
        return np.mean(found)

    expected = mean(student, teacher, kept), mean(student.T, teacher.T, kept.T)
    student.requires_grad_()
    for weights, value in (((1, 0), expected[0]), ((0, 1), expected[1])):
        loss = pearson_loss(student, teacher, *weights)
        assert loss.item() == pytest.approx(value, rel=1e-9)
        (grad,) = torch.autograd.grad(loss, student)
        assert grad.isfinite().all()
        assert not grad[hidden].any()


def test_pearson_of_one_image_and_of_constant_rows():
    """One image has no relation to others; a constant has no correlation."""
    student, teacher, _ = draw((1, 6))
    only_intra = pearson_loss(student, teacher, inter_weight=0.0)
    assert only_intra.item() == 0
    student[:] = 2.0
    assert pearson_loss(student, teacher).item() == 1


@pytest.mark.parametrize('function', [dist_loss, mlkd_loss, pearson_loss, wttm_loss])
def test_gradients(function):
    student, teacher, _ = draw((4, 5))
    inputs = student.requires_grad_(), teacher.requires_grad_()
    assert torch.autograd.gradcheck(function, inputs)


@pytest.mark.parametrize('function', MODULES)
@pytest.mark.parametrize('dtype', [torch.float16, torch.float32])
def test_the_modules_are_the_functions(function, dtype):
    """To the bit, gradients too."""
    student, teacher, labels = draw((6, 9), dtype)
    module = MODELS.build(dict(type=f'mmkendall.{MODULES[function]}'))
    if function in LABELLED:
        arguments, options = (labels,), {}
        module.warmup_epochs = 0
    elif function is ctkd_loss:
        arguments, options = (module.temperature.detach(),), dict(reversal=module.reversal)
    elif function is kd_loss:
        module = MODELS.build(dict(type='mmkendall.KDLoss', temperature_S=2.0, temperature_T=0.5))
        arguments, options = (2.0, 0.5), {}
    else:
        arguments, options = (), dict(num_views=2) if function is mlkd_loss else {}
    results = []
    for compute in (
        lambda preds: function(preds, teacher, *arguments, **options),
        lambda preds: module(preds, teacher, *((labels,) if function in LABELLED else ())),
    ):
        preds = student.clone().requires_grad_()
        loss = compute(preds)
        loss.backward()
        results.append((loss.detach(), preds.grad))
    for found, expected in zip(*results, strict=True):
        assert torch.equal(found, expected)


def call(function, student, teacher, labels):
    if function is ctkd_loss:
        return function(student, teacher, torch.tensor(4.0))
    return (
        function(student, teacher, labels) if function in LABELLED else function(student, teacher)
    )


@pytest.mark.parametrize('function', LOSSES)
def test_no_rows_and_one_class(function):
    student = torch.zeros(0, 5, requires_grad=True)
    loss = call(function, student, torch.zeros(0, 5), torch.zeros(0, dtype=torch.long))
    assert loss.item() == 0
    loss.backward()
    with pytest.raises(ValueError, match='have one class'):
        call(function, torch.zeros(3, 1), torch.zeros(3, 1), torch.zeros(3, dtype=torch.long))


@pytest.mark.parametrize('function', LOSSES)
def test_masked_classes_and_constant_rows_have_finite_gradients(function):
    student, teacher, labels = draw((4, 6), torch.float32)
    labels[:] = 0
    student[:, 4] = teacher[:, 4] = -torch.inf
    student[2], teacher[2] = 1.0, 2.0
    student.requires_grad_()
    loss = call(function, student, teacher, labels)
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize(
    ('function', 'option'),
    [
        (bild_loss, 'temperature'),
        (bild_loss, 'topk'),
        (ctkd_loss, 'reversal'),
        (dist_loss, 'temperature'),
        (dist_loss, 'inter_weight'),
        (dkd_loss, 'temperature'),
        (dkd_loss, 'alpha'),
        (kd_loss, 'temperature_S'),
        (kd_loss, 'temperature_T'),
        (kd_loss, 'reduction'),
        (mlkd_loss, 'num_views'),
        (listmle_loss, 'topk'),
        (mlkd_loss, 'class_weight'),
        (pearson_loss, 'intra_weight'),
        (pld_loss, 'temperature'),
        (pld_loss, 'topk'),
        (wttm_loss, 'temperature'),
    ],
)
def test_options_out_of_range(function, option):
    arguments = draw((4, 6))[: 3 if function in LABELLED else 2]
    if function is ctkd_loss:
        arguments = (*arguments, torch.tensor(4.0))
    with pytest.raises(ValueError, match=f'{option} must be'):
        function(*arguments, **{option: -1})


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_z_scores(dtype):
    logits = draw((4, 6), dtype)[0]
    found, array = standardize(logits), logits.double().numpy()
    assert found.dtype == torch.float32
    expected = (array - array.mean(axis=1, keepdims=True)) / array.std(axis=1, keepdims=True)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not hasattr(torch, 'func'), reason='torch.func came with torch 2.0')
@pytest.mark.parametrize('function', LOSSES)
def test_under_transforms(function):
    from torch.func import grad, jacrev, vmap

    draws = [draw((4, 6)) for _ in range(3)]
    student, teacher, labels = (torch.stack(each) for each in zip(*draws, strict=True))

    def loss(preds_S, preds_T, gt_labels):
        return call(function, preds_S, preds_T, gt_labels)

    values, slopes = [], []
    for arguments in zip(student, teacher, labels, strict=True):
        preds = arguments[0].clone().requires_grad_()
        value = loss(preds, *arguments[1:])
        value.backward()
        values.append(value.detach())
        slopes.append(preds.grad)
    torch.testing.assert_close(vmap(loss)(student, teacher, labels), torch.stack(values))
    torch.testing.assert_close(vmap(grad(loss))(student, teacher, labels), torch.stack(slopes))
    torch.testing.assert_close(jacrev(loss)(student[0], teacher[0], labels[0]), slopes[0])


@pytest.mark.skipif(not hasattr(torch, 'compiler'), reason='torch.compiler came with torch 2.1')
@pytest.mark.parametrize('function', LOSSES)
def test_compiles(function):
    """In one graph, with the same value and gradient."""
    torch.compiler.reset()
    student, teacher, labels = draw((4, 6), torch.float32)
    student.requires_grad_()
    results = []
    for way in (call, torch.compile(call, fullgraph=True, backend='aot_eager')):
        loss = way(function, student, teacher, labels)
        results.append((loss.detach(), *torch.autograd.grad(loss, student)))
    torch.testing.assert_close(*results)

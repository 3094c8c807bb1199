"""The losses on a whole order, and the masks: definitions in float64, place by place."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmkendall.functional import bild_loss, listmle_loss, pld_loss, wttm_loss

INF = math.inf
MASKED = (bild_loss, listmle_loss, pld_loss, wttm_loss)
has_func = pytest.mark.skipif(not hasattr(torch, 'func'), reason='torch.func came with torch 2.0')


def row_by_hand(student, teacher, label, weigh, topk):
    """The loss of a row from the formula: plain numbers, one place after the other.

    Args:
        student: a list of logits.
        teacher: a list of logits.
        label: the class to be put first, or None.
        weigh: from the teacher's logits of all classes that count, the weight of each class; None
            for equal weights.
        topk: how many places, or None.
    """
    kept = [c for c in range(len(student)) if not student[c] == teacher[c] == -INF]
    if len(kept) < 2:
        return 0.0
    score = {c: INF if c == label else teacher[c] for c in kept}
    order = sorted(kept, key=lambda c: -score[c])
    places = [c for c in order if score[c] > -INF][:topk]
    total = 0.0
    for c in places:
        behind = [math.exp(student[other]) for other in kept if score[other] <= score[c]]
        weight = 1 / len(places) if weigh is None else weigh([teacher[k] for k in kept])
        if weigh is not None:
            weight = weight[kept.index(c)]
        total += weight * (math.log(sum(behind)) - student[c])
    return total


def softmax(temperature):
    def weigh(logits):
        powers = [math.exp((logit - max(logits)) / temperature) for logit in logits]
        return [power / sum(powers) for power in powers]

    return weigh


def by_hand(student, teacher, labels, weigh, topk):
    labels = [None] * len(student) if labels is None else labels.tolist()
    rows = zip(student.tolist(), teacher.tolist(), labels, strict=True)
    return torch.tensor(
        [row_by_hand(s, t, label, weigh, topk) for s, t, label in rows], dtype=torch.float64
    )


@st.composite
def batches(draw):
    """Student and teacher in float64, with ties, masked classes and a teacher's unknown ones."""
    shape = draw(st.integers(1, 4)), draw(st.sampled_from([2, 3, 8, 40]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))

    def drawn(share):
        return torch.rand(shape, generator=generator) < share

    student, teacher = draw(st.sampled_from([0.3, 3.0, 30.0])) * torch.randn(
        2, *shape, generator=generator, dtype=torch.float64
    )
    if draw(st.booleans()):
        teacher = teacher.round()
    if draw(st.booleans()):
        teacher[drawn(0.4)] = -INF
        teacher[:, 0] = 1.0  # Something has to be known.
    if draw(st.booleans()):
        hidden = drawn(0.3)
        hidden[:, 0] = False
        student[hidden] = teacher[hidden] = -INF
    labels = None
    if draw(st.booleans()):
        counts = (student != -INF).double()
        labels = torch.multinomial(counts, 1, generator=generator).squeeze(1)
    return student, teacher, labels


@given(
    batch=batches(),
    temperature=st.sampled_from([1.0, 0.5, 4.0]),
    topk=st.sampled_from([None, None, 1, 2]),
)
def test_equals_the_definition(batch, temperature, topk):
    student, teacher, labels = batch
    if topk is not None:  # Which of equal classes stand at the cut is not said.
        teacher = teacher + 1e-3 * torch.arange(teacher.shape[1])
    for function, weigh in ((pld_loss, softmax(temperature)), (listmle_loss, None)):
        options = dict(topk=topk) | ({} if weigh is None else dict(temperature=temperature))
        expected = by_hand(student, teacher, labels, weigh, topk)
        found = function(student, teacher, labels, reduction='none', **options)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
        single = function(student.float(), teacher.float(), labels, reduction='none', **options)
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), expected, rtol=1e-4, atol=1e-4)
        rows = ((student != -INF) | (teacher != -INF)).sum(dim=1) > 1
        total = function(student, teacher, labels, reduction='sum', **options)
        torch.testing.assert_close(total, expected.sum(), rtol=1e-9, atol=1e-10)
        mean = function(student, teacher, labels, **options)
        torch.testing.assert_close(
            mean, expected.sum() / max(int(rows.sum()), 1), rtol=1e-9, atol=1e-10
        )


@given(batch=batches())
def test_wttm_equals_the_definition(batch):
    student, teacher, _ = batch
    for temperature in (1.0, 5.0):
        expected = []
        for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
            kept = [c for c in range(len(s)) if not s[c] == t[c] == -INF]
            p, q = (softmax(1.0)([row[c] for c in kept]) for row in (t, s))
            powers = [probability ** (1 / temperature) for probability in p]
            known = [(a / sum(powers), b) for a, b in zip(powers, q, strict=True) if a > 0]
            expected.append(sum(powers) * sum(a * math.log(a / b) for a, b in known))
            if len(kept) < 2:
                expected[-1] = 0.0
        found = wttm_loss(student, teacher, temperature, 'none')
        torch.testing.assert_close(
            found, torch.tensor(expected, dtype=torch.float64), rtol=1e-8, atol=1e-10
        )


def bild_by_hand(student, teacher, temperature, topk):
    """Both halves of the loss of a row, pair by pair."""
    kept = [c for c in range(len(student)) if not student[c] == teacher[c] == -INF]
    known = [c for c in kept if teacher[c] > -INF]
    total = 0.0
    for leader in (teacher, student):
        taken = sorted(known, key=lambda c, leader=leader: -leader[c])[:topk]
        pairs = list(itertools.combinations(taken, 2))
        if len(kept) > 1 and pairs:
            p, q = (
                softmax(temperature)([row[i] - row[j] for i, j in pairs])
                for row in (teacher, student)
            )
            total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)
    return total


@given(batch=batches(), temperature=st.sampled_from([1.0, 3.0]), topk=st.sampled_from([2, 5, 8]))
def test_bild_equals_the_definition(batch, temperature, topk):
    student, teacher, _ = batch
    # Which of equal logits comes first is not said, and a softmax of hundreds leaves nothing.
    teacher = teacher + 1e-3 * torch.arange(teacher.shape[1])
    student, teacher = student / 4, teacher / 4
    expected = [
        bild_by_hand(*rows, temperature, topk)
        for rows in zip(student.tolist(), teacher.tolist(), strict=True)
    ]
    found = bild_loss(student, teacher, temperature, topk, 'none')
    torch.testing.assert_close(
        found, torch.tensor(expected, dtype=torch.float64), rtol=1e-8, atol=1e-10
    )
    single = bild_loss(student.float(), teacher.float(), temperature, topk, 'none')
    torch.testing.assert_close(single.double(), found, rtol=1e-4, atol=1e-4)


def test_bild_teaches_the_leaders_alone():
    """Gradients by differences, and none of a class that is among neither's highest."""
    student, teacher = 3 * torch.randn(2, 3, 6, dtype=torch.float64)
    teacher[1, 2] = student[2, 3] = teacher[2, 3] = -INF
    student.requires_grad_()
    teacher.requires_grad_()
    torch.autograd.gradcheck(lambda s, t: bild_loss(s, t, topk=3), (student, teacher))
    bild_loss(student, teacher, topk=2).backward()
    taken = torch.zeros(3, 6, dtype=torch.bool)
    for logits in (student, teacher):
        known = logits.detach().masked_fill(teacher == -INF, -INF)
        taken.scatter_(1, known.topk(2).indices, True)
    assert ((student.grad != 0) <= taken).all()
    assert bild_loss(teacher, teacher).item() == 0


@pytest.mark.parametrize('labelled', [False, True])
@pytest.mark.parametrize('topk', [None, 3])
def test_gradients(labelled, topk):
    """Of the student beside ties, an unknown class and one that does not count; of the teacher."""
    student, teacher = torch.randn(2, 4, 6, dtype=torch.float64).unbind()
    hidden, unknown = torch.zeros(2, 4, 6, dtype=torch.bool)
    hidden[3, 2] = unknown[2, 1] = True
    labels = torch.tensor([3, 0, 5, 1]) if labelled else None

    def masked(logits, places):
        return logits.masked_fill(places, -INF)

    def of_both(scores, logits):
        scores = masked(scores, hidden | unknown)
        return pld_loss(masked(logits, hidden), scores, labels, 2.0, topk)

    # Where no two are equal: a step of the teacher's would part them.
    inputs = teacher.clone().requires_grad_(), student.requires_grad_()
    assert torch.autograd.gradcheck(of_both, inputs)

    teacher[0, 3] = teacher[0, 4]
    scores = masked(teacher, hidden | unknown)
    for function in (pld_loss, listmle_loss):
        assert torch.autograd.gradcheck(
            lambda logits, function=function: function(
                masked(logits, hidden), scores, labels, topk=topk
            ),
            student,
        )


@pytest.mark.parametrize('function', MASKED)
@given(batch=batches())
def test_gradients_are_finite(function, batch):
    """Of classes that count and of those that don't, in float32."""
    student, teacher, _ = batch
    student = student.float().requires_grad_()
    function(student, teacher.float()).backward()
    assert student.grad.isfinite().all()
    assert not student.grad[student == -INF].any()


def test_pld_with_the_top_place_alone_is_a_weighted_cross_entropy():
    student, teacher = 3 * torch.randn(2, 7, 9, dtype=torch.float64)
    labels = torch.randint(9, (7,))
    weights = teacher.softmax(1).gather(1, labels[:, None]).squeeze(1)
    entropy = torch.nn.functional.cross_entropy(student, labels, reduction='none')
    found = pld_loss(student, teacher, labels, topk=1, reduction='none')
    torch.testing.assert_close(found, weights * entropy)


def test_listmle_is_the_likelihood_of_the_order():
    """Over all orders of the classes, the likelihoods sum to one."""
    student = torch.randn(1, 4, dtype=torch.float64)
    orders = torch.tensor(list(itertools.permutations(range(4)))).double()
    losses = listmle_loss(student.expand(24, 4), orders, reduction='none')
    assert (-4 * losses).exp().sum().item() == pytest.approx(1, rel=1e-12)
    # Of the first two places: the sum over the orders that begin with them.
    first = listmle_loss(student, torch.tensor([[5.0, 9.0, -INF, -INF]]), topk=2)
    begins = (orders[:, 1] == 3) & (orders[:, 0] == 2)
    assert math.exp(-2 * first.item()) == pytest.approx(
        (-4 * losses[begins]).exp().sum().item(), rel=1e-12
    )


def test_pld_with_a_hot_teacher_is_listmle():
    student, teacher = torch.randn(2, 5, 8, dtype=torch.float64)
    torch.testing.assert_close(
        pld_loss(student, teacher, temperature=1e9), listmle_loss(student, teacher)
    )


def test_the_order_of_the_columns_does_not_matter_where_teachers_are_tied():
    student = torch.randn(3, 10, dtype=torch.float64)
    teacher = torch.tensor([3.0] + [1.0] * 6 + [0.0] * 3, dtype=torch.float64).expand(3, 10)
    moved = torch.randperm(10)
    for function in (pld_loss, listmle_loss):
        torch.testing.assert_close(
            function(student[:, moved], teacher[:, moved]), function(student, teacher)
        )
    # Of a tied teacher a student learns that classes are equal.
    level = torch.zeros(1, 10, dtype=torch.float64, requires_grad=True)
    listmle_loss(level, torch.ones(1, 10, dtype=torch.float64)).backward()
    assert level.grad.abs().max() < 1e-15


@pytest.mark.parametrize('spread', [1e-4, 300.0, 1e30])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_logits_that_overflow_an_exponential(spread, dtype):
    """In the teacher's order or against it, a place costs what the highest class behind it has."""
    ascending = spread * torch.arange(5, dtype=dtype)
    for student in (ascending, -ascending):
        logits = student[None].clone().requires_grad_()
        loss = listmle_loss(logits, -torch.arange(5, dtype=dtype)[None], topk=4)
        (grad,) = torch.autograd.grad(loss, logits)
        assert loss.isfinite()
        assert grad.isfinite().all()
        behind = [student[k:].double() for k in range(4)]
        expected = sum(rest.logsumexp(0) - rest[0] for rest in behind) / 4
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize('function', MASKED)
def test_masks(function):
    """Of rows and of classes; what does not count may hold anything."""
    student, teacher = torch.randn(2, 6, 7, dtype=torch.float64)
    rows = torch.tensor([True, False, True, True, False, True])
    classes = torch.rand(6, 7) < 0.7
    classes[:, 0] = classes[:, 3] = True
    classes[5] = torch.tensor([True] + [False] * 6)  # One class, which has no order.
    expected = [
        function(s[None, keep], t[None, keep]) if row and keep.sum() > 1 else torch.tensor(0.0)
        for s, t, keep, row in zip(student, teacher, classes, rows, strict=True)
    ]
    expected = torch.stack([loss.double() for loss in expected])
    student[~classes], teacher[~classes] = math.nan, INF
    student[1], teacher[4] = math.nan, -INF
    student.requires_grad_()
    for reduction, value in (
        ('none', expected),
        ('sum', expected.sum()),
        ('mean', expected.sum() / 3),
    ):
        loss = function(student, teacher, reduction=reduction, mask=rows, class_mask=classes)
        torch.testing.assert_close(loss, value)
        (grad,) = torch.autograd.grad(loss.sum(), student)
        assert grad.isfinite().all()
        assert not grad[~classes].any()
        assert not grad[~rows].any()
        assert grad[rows & (expected != 0)].any(dim=1).all()
    one = torch.tensor([True, False, True, True, False, True, True])
    torch.testing.assert_close(
        function(student[:1].nan_to_num(), teacher[:1].nan_to_num(), class_mask=one),
        function(student[:1].nan_to_num()[:, one], teacher[:1].nan_to_num()[:, one]),
    )


@pytest.mark.parametrize('function', MASKED)
def test_nothing_that_counts(function):
    for rows, mask in ((0, None), (3, torch.zeros(3, dtype=torch.bool))):
        student = torch.full((rows, 5), math.nan, requires_grad=True)
        for reduction in ('none', 'mean', 'sum'):
            loss = function(student, torch.zeros(rows, 5), reduction=reduction, mask=mask)
            assert loss.shape == ((rows,) if reduction == 'none' else ())
            assert not loss.any()
            (grad,) = torch.autograd.grad(loss.sum(), student)
            assert not grad.any()


def test_a_row_that_does_not_count_may_have_no_label():
    student, teacher = torch.randn(2, 3, 5)
    labels = torch.tensor([2, -100, 4])
    mask = labels >= 0
    found = pld_loss(student, teacher, labels, mask=mask)
    torch.testing.assert_close(found, pld_loss(student[mask], teacher[mask], labels[mask]))


@pytest.mark.parametrize('function', [listmle_loss, pld_loss])
def test_what_is_an_error_of_its_row(function):
    student, teacher = torch.randn(2, 6, 5)
    labels = torch.zeros(6, dtype=torch.long)
    student[0, 2] = math.nan
    teacher[1, 3] = math.nan
    teacher[2, 3] = INF
    student[3, 0] = teacher[3, 0] = -INF  # The label is not among the classes.
    student[4, 4] = -INF
    student.requires_grad_()
    losses = function(student, teacher, labels, reduction='none')
    assert losses.isfinite().tolist() == [False] * 5 + [True]
    assert losses[:4].isnan().all()


def test_a_teacher_that_knows_nothing():
    student, unknown = torch.randn(1, 5), torch.full((1, 5), -INF)
    assert listmle_loss(student, unknown).item() == 0
    assert pld_loss(student, unknown).isnan()
    # The label alone has a place.
    label = torch.tensor([3])
    entropy = torch.nn.functional.cross_entropy(student, label)
    torch.testing.assert_close(listmle_loss(student, unknown, label), entropy)


@pytest.mark.parametrize('function', [listmle_loss, pld_loss])
def test_labels_that_are_none(function):
    logits = torch.randn(4, 5)
    for labels in (torch.zeros(3, dtype=torch.long), torch.rand(4, 5), torch.rand(4)):
        with pytest.raises(ValueError, match='gt_labels must hold one class index a row'):
            function(logits, logits, labels)
    with pytest.raises((IndexError, RuntimeError), match='out of bounds'):
        function(logits, logits, torch.tensor([0, 1, 5, 2]))


@pytest.mark.parametrize('function', [listmle_loss, pld_loss])
@pytest.mark.parametrize('topk', [0, -1, 0.5, True, '3'])
def test_topk_that_is_none(function, topk):
    logits = torch.randn(4, 5)
    with pytest.raises(ValueError, match='topk must be an integer of 1 at least'):
        function(logits, logits, topk=topk)
    with pytest.raises(ValueError, match=r'topk=6 classes were asked for.* have 5'):
        function(logits, logits, topk=6)


@pytest.mark.parametrize('function', MASKED)
@pytest.mark.parametrize(
    ('options', 'error', 'message'),
    [
        (dict(mask=[True] * 4), TypeError, 'mask must be a bool tensor, got list'),
        (dict(mask=torch.ones(4)), TypeError, r'mask must be a bool tensor, got torch\.float32'),
        (
            dict(mask=torch.ones(5, dtype=torch.bool)),
            ValueError,
            r'mask must hold one entry a row, \(4,\), got \(5,\)',
        ),
        (
            dict(mask=torch.ones(4, dtype=torch.bool, device='meta')),
            ValueError,
            'mask must be on cpu',
        ),
        (dict(class_mask=torch.ones(4, dtype=torch.bool)), ValueError, 'class_mask must be of'),
        (dict(reduction='average'), ValueError, 'reduction must be one of'),
    ],
)
def test_refuses(function, options, error, message):
    logits = torch.randn(4, 5)
    with pytest.raises(error, match=message):
        function(logits, logits, **options)


@has_func
@pytest.mark.parametrize('function', MASKED)
def test_transforms_with_masks(function):
    from torch.func import grad, vmap

    student, teacher = torch.randn(2, 3, 4, 6, dtype=torch.float64)
    masks = torch.tensor([[True, True, False, True]] * 2 + [[True] * 4])
    classes = torch.rand(3, 4, 6) < 0.7

    def loss(preds_S, preds_T, mask, class_mask):
        return function(preds_S, preds_T, mask=mask, class_mask=class_mask)

    slopes = []
    for s, t, mask, class_mask in zip(student, teacher, masks, classes, strict=True):
        s = s.clone().requires_grad_()
        (slope,) = torch.autograd.grad(loss(s, t, mask, class_mask), s)
        slopes.append(slope)
    found = vmap(grad(loss))(student, teacher, masks, classes)
    torch.testing.assert_close(found, torch.stack(slopes))


@pytest.mark.skipif(not hasattr(torch, 'compiler'), reason='torch.compiler came with torch 2.1')
@pytest.mark.parametrize('function', MASKED)
def test_compiles_with_masks(function):
    torch.compiler.reset()
    student, teacher = torch.randn(2, 4, 6).unbind()
    student.requires_grad_()
    mask, class_mask = torch.tensor([True, False, True, True]), torch.rand(4, 6) < 0.7
    results = []
    for way in (function, torch.compile(function, fullgraph=True, backend='aot_eager')):
        loss = way(student, teacher, mask=mask, class_mask=class_mask)
        results.append((loss.detach(), *torch.autograd.grad(loss, student)))
    torch.testing.assert_close(*results)

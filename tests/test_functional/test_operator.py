"""The operator behind the backends: autograd, autocast, torch.compile and DDP."""

import shutil

import pytest
import torch
from torch import nn

from mmkendall.functional import SURROGATES, kendall_rank_loss
from mmkendall.functional.operator import compute

from ..processes import run_in_processes

needs_custom_op = pytest.mark.skipif(
    not hasattr(torch.library, 'custom_op'), reason='torch.library.custom_op came with torch 2.4'
)


def draw(*shape, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    preds_S, preds_T = torch.randn(2, *shape, generator=generator, dtype=torch.float64).to(dtype)
    return preds_S.requires_grad_(), preds_T


def gradient(loss, preds):
    return torch.autograd.grad(loss, preds)[0]


@needs_custom_op
@pytest.mark.parametrize('needs', [(True, False), (True, True), (False, False)])
@pytest.mark.parametrize('average', [True, False])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_opcheck(needs, average, dtype):
    preds_S, preds_T = draw(3, 7, dtype=dtype)
    arguments = (preds_S.detach(), preds_T, 3.0, 'product', 'eager', *needs, True, average)
    torch.library.opcheck(compute, arguments)


@needs_custom_op
@pytest.mark.parametrize('surrogate', SURROGATES)
@pytest.mark.parametrize('reduction', ['none', 'mean', 'sum'])
def test_compiles_without_a_graph_break(surrogate, reduction):
    def total(preds_S, preds_T):
        return kendall_rank_loss(preds_S, preds_T, 5.0, surrogate, reduction).sum()

    torch.compiler.reset()
    compiled = torch.compile(total, fullgraph=True, backend='aot_eager')
    for shape in ((4, 10), (5, 10), (6, 23), (7, 31)):
        preds_S, preds_T = draw(*shape)
        expected = total(preds_S, preds_T)
        loss = compiled(preds_S, preds_T)
        torch.testing.assert_close(loss, expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(gradient(loss, preds_S), gradient(expected, preds_S))


@needs_custom_op
def test_one_graph_serves_all_shapes():
    graphs = []

    def count(graph, example_inputs):
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    compiled = torch.compile(kendall_rank_loss, fullgraph=True, dynamic=True, backend=count)
    for shape in ((4, 10), (6, 23), (7, 31)):
        preds_S, preds_T = draw(*shape)
        loss, expected = (call(preds_S, preds_T) for call in (compiled, kendall_rank_loss))
        torch.testing.assert_close(gradient(loss, preds_S), gradient(expected, preds_S))
    assert len(graphs) == 1


@needs_custom_op
def test_compiles_with_every_option():
    def total(preds_S, preds_T, mask):
        return kendall_rank_loss(
            preds_S, preds_T, dim=-1, mask=mask, mink=0.5, standardize=True, steepness=2.0
        )

    torch.compiler.reset()
    preds_S, preds_T = draw(4, 3, 10)
    mask = preds_T[..., 0] > 0
    compiled = torch.compile(total, fullgraph=True, backend='aot_eager')
    loss, expected = (call(preds_S, preds_T, mask) for call in (compiled, total))
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient(loss, preds_S), gradient(expected, preds_S))


@pytest.mark.long
@needs_custom_op
@pytest.mark.skipif(shutil.which('c++') is None, reason='inductor needs a C++ compiler')
def test_compiles_with_inductor_beside_other_losses():
    def total(preds_S, preds_T):
        divergence = nn.functional.kl_div(
            preds_S.log_softmax(1), preds_T.softmax(1), reduction='batchmean'
        )
        return divergence + 0.5 * kendall_rank_loss(preds_S, preds_T, 5.0)

    torch.compiler.reset()
    preds_S, preds_T = draw(4, 10)
    loss, expected = (
        call(preds_S, preds_T) for call in (torch.compile(total, fullgraph=True), total)
    )
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient(loss, preds_S), gradient(expected, preds_S))


@pytest.mark.parametrize('steepness', [1.0, 100.0])
@pytest.mark.parametrize('num_classes', [50, 300])
@pytest.mark.parametrize('backend', ['auto', 'eager', 'reference'])
def test_autocast_changes_nothing(backend, num_classes, steepness):
    preds_S, preds_T = draw(8, num_classes)
    arguments = dict(preds_T=preds_T, steepness=steepness, standardize=True, backend=backend)
    expected = kendall_rank_loss(preds_S, **arguments)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = kendall_rank_loss(preds_S, **arguments)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)
    assert torch.equal(gradient(loss, preds_S), gradient(expected, preds_S))


def test_autocast_logits_of_bfloat16():
    inputs, preds_T = draw(8, 5)
    head = nn.Linear(5, 50)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        preds_S, preds_T = head(inputs), head(preds_T).detach()
        loss = kendall_rank_loss(preds_S, preds_T, steepness=2.0)
    assert preds_S.dtype == torch.bfloat16
    grad = gradient(loss, preds_S)
    exact = preds_S.detach().double().requires_grad_()
    expected = kendall_rank_loss(exact, preds_T.double(), steepness=2.0, backend='reference')
    torch.testing.assert_close(loss.double(), expected, rtol=0, atol=1e-6)
    assert grad.dtype == torch.bfloat16
    torch.testing.assert_close(grad.double(), gradient(expected, exact), rtol=2**-8, atol=1e-8)


@pytest.mark.parametrize('surrogate', SURROGATES)
@pytest.mark.parametrize('reduction', ['mean', 'sum'])
def test_double_backward_is_refused(surrogate, reduction):
    preds_S, preds_T = draw(4, 6)
    loss = kendall_rank_loss(preds_S, preds_T, 2.0, surrogate, reduction)
    (grad,) = torch.autograd.grad(loss, preds_S, create_graph=True)
    with pytest.raises(RuntimeError, match=r"no second derivative.*backend='reference'"):
        grad.square().sum().backward()


def test_a_penalty_on_the_gradient_of_a_sum_of_losses_is_refused():
    inputs, preds_T = draw(4, 6)
    weight = torch.ones(6, requires_grad=True)
    loss = (inputs * weight).square().sum() + kendall_rank_loss(inputs * weight, preds_T, 2.0)
    (grad,) = torch.autograd.grad(loss, weight, create_graph=True)
    with pytest.raises(RuntimeError, match='no second derivative'):
        grad.square().sum().backward()


def test_create_graph_gives_the_same_first_derivative():
    preds_S, preds_T = draw(4, 6)
    preds_T.requires_grad_()
    grads = []
    for create_graph in (False, True):
        loss = kendall_rank_loss(preds_S, preds_T, 2.0)
        grads.append(torch.autograd.grad(loss, (preds_S, preds_T), create_graph=create_graph))
    for plain, graphed in zip(*grads, strict=True):
        assert torch.equal(plain, graphed)


@pytest.mark.parametrize('surrogate', SURROGATES)
def test_the_definition_has_a_second_derivative(surrogate):
    preds_S, preds_T = draw(2, 4, dtype=torch.float64)
    assert torch.autograd.gradgradcheck(
        lambda preds: kendall_rank_loss(preds, preds_T, 1.5, surrogate, backend='reference'),
        preds_S,
    )


def train_one_step(rank, batch, preds_T, result):
    torch.manual_seed(0)
    model = nn.parallel.DistributedDataParallel(nn.Linear(6, 12))
    share = slice(rank, None, 2)
    kendall_rank_loss(model(batch[share]), preds_T[share], 2.0).backward()
    if rank == 0:
        torch.save(model.module.weight.grad, result)


@pytest.mark.long
@pytest.mark.skipif(not torch.distributed.is_available(), reason='this torch has no distributed')
def test_ddp_gives_the_gradient_of_the_whole_batch(tmp_path):
    batch, preds_T = torch.randn(8, 6), torch.randn(8, 12)
    result = tmp_path / 'grad.pt'
    run_in_processes(train_one_step, 2, tmp_path, batch, preds_T, result)
    torch.manual_seed(0)
    model = nn.Linear(6, 12)
    kendall_rank_loss(model(batch), preds_T, 2.0).backward()
    torch.testing.assert_close(torch.load(result), model.weight.grad)


TRANSFORMED = [
    {},
    {'topk': 4},
    {'mink': 0.5, 'standardize': True},
    {'reduction': 'sum', 'mask': torch.tensor([True, False, True, True])},
    {'class_mask': torch.arange(9) < 6, 'standardize': True},
]


@pytest.mark.skipif(
    not hasattr(torch, 'compiler'), reason='torch.func, and what tells it, are new'
)
@pytest.mark.parametrize('surrogate', SURROGATES)
@pytest.mark.parametrize('options', TRANSFORMED)
def test_under_transforms(surrogate, options):
    """torch.func sees the definition, which any of its transforms can look through."""
    from torch.func import grad, jacrev, vmap

    def loss(preds_S, preds_T):
        return kendall_rank_loss(preds_S, preds_T, 2.0, surrogate, **options)

    pairs = [draw(4, 9, dtype=torch.float64, seed=seed) for seed in range(3)]
    expected = [gradient(loss(*pair), pair[0]) for pair in pairs]
    student, teacher = (
        torch.stack([preds.detach() for preds in side]) for side in zip(*pairs, strict=True)
    )
    torch.testing.assert_close(
        vmap(loss)(student, teacher), torch.stack([loss(*pair).detach() for pair in pairs])
    )
    torch.testing.assert_close(vmap(grad(loss))(student, teacher), torch.stack(expected))
    torch.testing.assert_close(jacrev(loss)(student[0], teacher[0]), expected[0])


@pytest.mark.skipif(
    not hasattr(torch, 'compiler'), reason='torch.func, and what tells it, are new'
)
def test_a_named_backend_cannot_be_transformed():
    preds_S, preds_T = draw(4, 9)
    with pytest.raises(RuntimeError, match=r"'eager' cannot run inside of a transform.*'auto'"):
        torch.func.grad(lambda preds: kendall_rank_loss(preds, preds_T, backend='eager'))(
            preds_S.detach()
        )

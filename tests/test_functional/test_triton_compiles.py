"""The kernels as the backend launches them, compiled by Triton for GPUs that need not be here."""

import os
import re
import subprocess

import pytest
import torch

from mmkendall.functional.backends import triton_cuda

triton = pytest.importorskip('triton')
# Triton reads the variable when it is imported, and its interpreter compiles nothing.
pytestmark = pytest.mark.skipif(
    triton_cuda.interpreted() or not hasattr(triton, 'knobs'), reason="Triton's compiler is needed"
)

SURROGATES = triton_cuda.SURROGATES
KERNELS = ('prepare', 'all_pairs', 'sort', 'near_pairs', 'far_pairs', 'finish')
TYPES = {
    torch.float32: '*fp32',
    torch.float64: '*fp64',
    torch.int32: '*i32',
    torch.int64: '*i64',
    int: 'i32',
    float: 'fp32',
}
CUOBJDUMP = os.path.join(
    os.path.dirname(triton.__file__), 'backends', 'nvidia', 'bin', 'cuobjdump'
)


class Recorder:
    """Stands in for a kernel and keeps what would have been compiled for a launch."""

    def __init__(self, kernel, launches):
        self.kernel, self.launches = kernel, launches

    def __getitem__(self, grid):
        return self.launch

    def launch(self, *arguments, **options):
        names = self.kernel.arg_names
        constants = {names.index(name): options.pop(name) for name in names if name in options}
        signature, hints = {}, {}
        for index, name in enumerate(names):
            if index in constants:
                signature[name] = 'constexpr'
                continue
            argument = arguments[index]
            if isinstance(argument, int) and argument == 1:  # as at a launch
                signature[name], constants[index] = 'constexpr', 1
                continue
            tensor = isinstance(argument, torch.Tensor)
            signature[name] = TYPES[argument.dtype if tensor else type(argument)]
            if tensor or (isinstance(argument, int) and argument % 16 == 0):
                hints[(index,)] = [['tt.divisibility', 16]]
        key = {(index,): value for index, value in constants.items()}
        self.launches[repr((self.kernel.__name__, signature, key, hints, options))] = (
            triton.compiler.ASTSource(self.kernel, signature, key, hints),
            options,
        )


def record(monkeypatch, shape, steepness, surrogate, need_grad=True, **options):
    """What a call of the backend compiles."""
    from mmkendall.functional.backends import triton_kernels

    launches = {}
    with monkeypatch.context() as patch:
        patch.setattr(triton_cuda, '_nvidia', lambda preds: True)
        for name in KERNELS:
            kernel = getattr(triton_kernels, name)
            patch.setattr(triton_kernels, name, Recorder(kernel, launches))
        rows = torch.zeros(shape)
        triton_cuda.rank_loss(rows, rows, steepness, surrogate, need_grad, **options)
    return list(launches.values())


def compiled(source, options, arch):
    """The binary for NVIDIA GPUs of compute capability ``arch`` / 10."""
    target = triton.backends.compiler.GPUTarget('cuda', arch, 32)
    known = triton.compiler.make_backend(target).parse_options({})
    assert options.keys() <= vars(known).keys()  # else a launch would be refused
    return triton.compile(source, target=target, options=options).asm['cubin']


def spilled(cubin, path):
    """Bytes of a thread that did not fit into its registers."""
    path.write_bytes(cubin)
    done = subprocess.run(
        [CUOBJDUMP, '--dump-resource-usage', path], capture_output=True, text=True, check=True
    )
    found = re.search(r'STACK:(\d+) .*LOCAL:(\d+)', done.stdout)
    return int(found[1]) + int(found[2])


@pytest.mark.parametrize('arch', [80, 90])
@pytest.mark.parametrize(
    ('shape', 'steepness', 'options'),
    [
        *(((256, 1000), 1.0, {'surrogate': name, 'algorithm': 'dense'}) for name in SURROGATES),
        ((256, 1000), 100.0, {'surrogate': 'product', 'algorithm': 'window'}),
        ((8, 4096), 100.0, {'surrogate': 'hard_teacher', 'algorithm': 'window'}),
        ((1, 2048), 100.0, {'surrogate': 'product', 'algorithm': 'window', 'need_grad': False}),
        ((1, 2), 1.0, {'surrogate': 'product', 'average': True, 'compute_value': False}),
    ],
)
def test_compiles_without_spills(shape, steepness, options, arch, monkeypatch, tmp_path):
    launches = record(monkeypatch, shape, steepness, **options)
    assert len(launches) >= 3
    for source, choices in launches:
        found = spilled(compiled(source, choices, arch), tmp_path / 'cubin')
        assert found == 0, f'{source.name} spills {found} bytes'


@pytest.mark.parametrize(
    ('num_classes', 'steepness', 'surrogate', 'first', 'second'),
    [
        (511, 100.0, 'product', 'prepare', 'all_pairs'),
        (512, 15.0, 'product', 'prepare', 'all_pairs'),
        (512, 16.0, 'product', 'sort', 'near_pairs'),
        (4096, 8.0, 'hard_teacher', 'prepare', 'near_pairs'),  # torch sorts between them
        (4096, 8.0, 'diffkendall', 'prepare', 'all_pairs'),
    ],
)
def test_chooses_by_classes_and_steepness(
    num_classes, steepness, surrogate, first, second, monkeypatch
):
    launches = record(monkeypatch, (2, num_classes), steepness, surrogate)
    assert [source.name for source, _ in launches[:2]] == [first, second]

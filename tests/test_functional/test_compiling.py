"""Loops are compiled once a machine, and one line says so."""

from __future__ import annotations

import importlib
import os
import pkgutil
import subprocess
import sys
from types import FunctionType

import pytest

from tests.test_functional.drawn import needs_numba

LINE = 'The CPU loops of the ranking loss were compiled, which took'
SCRIPT = """
import torch
from mmkendall import kendall_rank_loss

torch.set_num_threads(1)
kendall_rank_loss(torch.randn(4, 20, requires_grad=True), torch.randn(4, 20)).backward()
"""


EQUALS_THE_DEFINITION = """
import sys

import torch
from mmkendall import kendall_rank_loss

torch.manual_seed(0)
student, teacher = torch.randn(2, 4, 20)
for surrogate in sys.argv[1:]:
    exact = kendall_rank_loss(
        student.double(), teacher.double(), 1.0, surrogate, backend='reference'
    )
    loss = kendall_rank_loss(student, teacher, 1.0, surrogate, backend='numba')
    torch.testing.assert_close(loss, exact.float())
"""


@pytest.mark.long
@needs_numba
def test_processes_that_start_together_compile_once(tmp_path):
    def start():
        return subprocess.Popen(
            [sys.executable, '-c', SCRIPT],
            env={**os.environ, 'NUMBA_CACHE_DIR': str(tmp_path)},
            stderr=subprocess.PIPE,
            text=True,
        )

    together = [start() for _ in range(3)]
    outputs = [process.communicate()[1] for process in together]
    assert [process.returncode for process in together] == [0, 0, 0], outputs
    assert sum(output.count(LINE) for output in outputs) == 1
    later = start()
    assert LINE not in later.communicate()[1]
    assert later.returncode == 0


@pytest.mark.long
@needs_numba
def test_code_of_several_processes_is_told_apart(tmp_path):
    """Numba counts the functions that a process compiles; here two count the same."""
    for surrogates in (['product'], ['diffkendall'], ['hard_teacher', 'diffkendall', 'product']):
        subprocess.run(
            [sys.executable, '-c', EQUALS_THE_DEFINITION, *surrogates],
            # The name of compiled code holds a set, whose order the seed decides.
            env={**os.environ, 'NUMBA_CACHE_DIR': str(tmp_path), 'PYTHONHASHSEED': '0'},
            check=True,
        )


@needs_numba
def test_compiled_functions_of_one_name_are_the_same():
    from mmkendall.functional.backends import numba_loops

    content = {}

    def what_it_is(value):
        function = getattr(value, 'py_func', value)
        if not isinstance(function, FunctionType):
            return repr(value)
        name = function.__module__, function.__qualname__
        used = [cell.cell_contents for cell in function.__closure__ or ()]
        used += [
            function.__globals__[name]
            for name in function.__code__.co_names
            if name in function.__globals__
        ]
        own = function.__code__.co_code, *(what_it_is(each) for each in used)
        assert content.setdefault(name, own) == own, name
        return name

    for module in pkgutil.iter_modules(numba_loops.__path__, numba_loops.__name__ + '.'):
        for value in vars(importlib.import_module(module.name)).values():
            if hasattr(value, 'py_func'):
                what_it_is(value)
    assert len(content) > 50

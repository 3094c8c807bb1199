"""Who may know whom: functional <- models <- engine <- tools, and no circles."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from .conftest import REPOSITORY

# Small modules that any package but the first two may import.
SHARED = ('class_names', 'registry', 'warn_once', 'whole_files')
# By package what of ours it may import, beside itself.
MAY_IMPORT = {
    'functional': {'functional'},
    'compat': {'compat'},
    'models': {'models', 'functional', 'compat', *SHARED},
    'datasets': {'datasets', 'compat', *SHARED},
    'evaluation': {'evaluation', 'functional', 'compat', *SHARED},
    'engine': {'engine', 'evaluation', 'models', 'functional', 'compat', *SHARED},
    'studies': {
        *('studies', 'engine', 'evaluation', 'datasets', 'models', 'compat', 'version'),
        *SHARED,
    },
}


def module_name(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


MODULES = {
    module_name(path): ast.parse(path.read_text())
    for path in (REPOSITORY / 'mmkendall').rglob('*.py')
    if '.mim' not in path.parts
}


def imports(nodes: list[ast.AST], inside_functions: bool) -> Iterator[str]:
    """The modules of ours that statements import, those for type checkers left out."""
    for node in nodes:
        if isinstance(node, ast.If) and ast.unparse(node.test) == 'TYPE_CHECKING':
            continue
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, 'a relative import'
            for alias in node.names:
                whole = f'{node.module}.{alias.name}'
                yield whole if whole in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if inside_functions or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            kinds = (ast.stmt, ast.excepthandler)
            inside = [each for each in ast.iter_child_nodes(node) if isinstance(each, kinds)]
            yield from imports(inside, inside_functions)


@pytest.mark.parametrize('package', MAY_IMPORT)
def test_packages_know_only_what_is_below_them(package):
    for name, tree in MODULES.items():
        if name.split('.')[1:2] != [package]:
            continue
        for imported in imports(tree.body, inside_functions=True):
            first, *rest = imported.split('.')
            assert first != 'tools', f'{name} imports {imported}'
            if first == 'mmkendall' and rest:
                assert rest[0] in MAY_IMPORT[package], f'{name} imports {imported}'


def test_no_module_is_imported_in_a_circle():
    graph = {
        name: {each for each in imports(tree.body, inside_functions=False) if each in MODULES}
        for name, tree in MODULES.items()
    }
    assert sum(map(len, graph.values())) > 100
    TopologicalSorter(graph).prepare()  # Raises CycleError, which names the circle.


def test_no_instructions_by_hand():
    """The loops are what a reader of Python and of Numba's documentation follows."""
    named = {
        name
        for tree in MODULES.values()
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in [getattr(node, 'module', None), *(each.name for each in node.names)]
    }
    assert 'numba' in named
    assert not [name for name in named if name and name.startswith('llvmlite')]

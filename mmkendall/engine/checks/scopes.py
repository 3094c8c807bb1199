"""What a config names, found as mmengine finds it: by registry and scope, not by spelling."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import mmengine.registry
from mmengine.registry import DefaultScope, Registry


@contextmanager
def scope_of(*configs: Mapping) -> Iterator[None]:
    """The default scope in which the parts of a config are built.

    Args:
        *configs: the config of the run, and the dicts that lead to the part, from the outside in.
    """
    run, *inner = configs
    scope = run.get('default_scope')
    for config in inner:
        scope = config.get('_scope_') or scope
    with DefaultScope.overwrite_default_scope(scope):
        yield


def resolve(kind: Any, registry: Registry, scope: str | None = None) -> Any:
    """The class or function that ``type`` means; None if no registry knows it.

    Args:
        kind: the value of ``type``: a name with or without a scope, or a class.
        registry: any node of the tree of registries.
        scope: ``_scope_`` of the dict; None for the default scope.
    """
    if not isinstance(kind, str):
        return kind
    with registry.switch_scope_and_registry(scope) as node:
        return node.get(kind)


def is_a(config: Any, parent: type | tuple[type, ...], registry: Registry) -> bool:
    """Whether a config builds an instance of a class, or of one of several, or a derived one."""
    if not isinstance(config, Mapping):
        return isinstance(config, parent)
    found = resolve(config.get('type'), registry, config.get('_scope_'))
    return isinstance(found, type) and issubclass(found, parent)


def close_types(kind: str) -> str:
    """Names of all registries that are spelled much like a name, with their scopes."""
    known: dict[str, str] = {}
    for root in vars(mmengine.registry).values():
        if isinstance(root, Registry):
            for node in (root, *root.children.values()):
                for name in node.module_dict:
                    known.setdefault(name, name if node is root else f'{node.scope}.{name}')
    close = difflib.get_close_matches(kind.rpartition('.')[2], list(known), n=4)
    return ', '.join(known[name] for name in close) or 'none'


def close_names(name: str, known: Iterable[str]) -> str:
    """The names most like one, joined by commas."""
    return ', '.join(difflib.get_close_matches(str(name), [str(key) for key in known], n=4))


def names(known: Iterable[str]) -> str:
    """Names for a message."""
    return ', '.join(map(str, known)) or 'none'

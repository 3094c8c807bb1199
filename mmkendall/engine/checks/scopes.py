"""What a config names, found as mmengine finds it: by registry and scope, not by spelling."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

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


def is_a(config: Any, parent: type, registry: Registry) -> bool:
    """Whether a config builds an instance of a class or of one that derives from it."""
    if not isinstance(config, Mapping):
        return isinstance(config, parent)
    found = resolve(config.get('type'), registry, config.get('_scope_'))
    return isinstance(found, type) and issubclass(found, parent)


def close_types(kind: str, registry: Registry) -> str:
    """Names of the registry's tree that are spelled much like a name, for a message."""
    known: dict[str, str] = {}
    for node in (registry.root, *registry.root.children.values()):
        for name in node.module_dict:
            known.setdefault(name, name if node is registry.root else f'{node.scope}.{name}')
    return close_names(kind.rpartition('.')[2], known) or 'none'


def close_names(name: str, known: Iterable[str] | Mapping[str, str]) -> str:
    """The names most like one, joined by commas."""
    close = difflib.get_close_matches(str(name), list(known), n=4, cutoff=0.6)
    shown = [known[match] for match in close] if isinstance(known, Mapping) else close
    return ', '.join(shown)


def names(known: Iterable[str]) -> str:
    """Names for a message."""
    return ', '.join(map(str, known)) or 'none'

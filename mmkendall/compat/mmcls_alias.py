"""mmrazor's configs say mmcls, which became mmpretrain; PyPI's mmcls stops at 0.25.

``mmcls::`` paths, ``_scope_='mmcls'``, ``type='mmcls.X'`` and ``from mmcls...`` all mean
mmpretrain here, unless an mmcls of its own is installed. mmengine would else try to install mmcls
with pip in the middle of a run. Until mmrazor's configs name mmpretrain.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from importlib.util import find_spec
from types import ModuleType

BREAKS = "mmrazor's configs name mmcls, which became mmpretrain"
PACKAGES = ('mmengine', 'mmpretrain')

OLD, NEW = 'mmcls', 'mmpretrain'


def is_broken() -> bool:
    return find_spec(OLD) is None


def mend() -> None:
    from mmengine.config.utils import MODULE2PACKAGE
    from mmengine.registry import DefaultScope, Registry

    MODULE2PACKAGE[OLD] = NEW
    # First, or the path finder would load mmpretrain's files a second time as mmcls's.
    sys.meta_path.insert(0, _AliasFinder())

    split_scope_key = Registry.split_scope_key

    def split_renamed_key(key: str) -> tuple[str | None, str]:
        scope, name = split_scope_key(key)
        return (NEW if scope == OLD else scope), name

    Registry.split_scope_key = staticmethod(split_renamed_key)

    scope_name = DefaultScope.scope_name.fget
    DefaultScope.scope_name = property(
        lambda self: NEW if scope_name(self) == OLD else scope_name(self),
        doc=DefaultScope.scope_name.__doc__,
    )


class _AliasFinder(importlib.abc.MetaPathFinder):
    """Finds ``mmcls`` and all below it as the module of the same name in mmpretrain."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition('.')[0] != OLD:
            return None
        real = NEW + fullname[len(OLD) :]
        found = find_spec(real)
        if found is None:
            return None
        return importlib.machinery.ModuleSpec(
            fullname, _AliasLoader(real), origin=found.origin, is_package=True
        )


class _AliasLoader(importlib.abc.Loader):
    """Loads a module under another name as the very same module object."""

    def __init__(self, real: str) -> None:
        self.real = real

    def create_module(self, spec) -> ModuleType:
        module = importlib.import_module(self.real)
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # The import system has just put the alias's spec on the real module.
        module.__spec__ = self.spec

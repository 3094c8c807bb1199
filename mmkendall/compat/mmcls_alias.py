"""mmrazor's configs say mmcls, which became mmpretrain; PyPI's mmcls stops at 0.25.

``mmcls::`` paths, ``_scope_='mmcls'``, ``type='mmcls.X'`` and ``from mmcls...`` all mean
mmpretrain here, unless an mmcls of its own is installed. mmengine would else try to install mmcls
with pip in the middle of a run. What mmpretrain renamed is found under its old name too: classes,
modules and config files that differ from those of mmcls 1.0.0rc6 in nothing but their name.
Until mmrazor's configs name mmpretrain.
"""

from __future__ import annotations

import functools
import importlib
import importlib.abc
import importlib.machinery
import re
import sys
from importlib.util import find_spec
from types import ModuleType

BREAKS = "mmrazor's configs name mmcls, which became mmpretrain"
PACKAGES = ('mmengine', 'mmpretrain')

OLD, NEW = 'mmcls', 'mmpretrain'

RENAMED_CLASSES = {
    'ClsDataSample': 'DataSample',
    'ClsVisualizer': 'UniversalVisualizer',
    'PackClsInputs': 'PackInputs',
    'ToNumpy': 'PILToNumpy',
    'ToPIL': 'NumpyToPIL',
}
RENAMED_MODULES = {
    'mmpretrain.structures.cls_data_sample': 'mmpretrain.structures.data_sample',
    'mmpretrain.visualization.cls_visualizer': 'mmpretrain.visualization.visualizer',
}
# Of the folders deit and vision_transformer: pt- and ft- said pre-trained and fine-tuned.
RENAMED_CONFIGS = (
    (r'^((deit|vision_transformer)/[^/]+_)[pf]t-', r'\1'),
    (r'^(vision_transformer/.+)-224(\.py)$', r'\1\2'),
    (r'^(vision_transformer/.+)-384(\.py)$', r'\1-384px\2'),
)


def is_broken() -> bool:
    return find_spec(OLD) is None


def mend() -> None:
    import mmengine.config.config
    import mmengine.hub.hub
    from mmengine.config.utils import MODULE2PACKAGE
    from mmengine.registry import DefaultScope, Registry

    MODULE2PACKAGE[OLD] = NEW
    split_config_path = mmengine.config.config._get_package_and_cfg_path

    def split_renamed_config_path(path: str) -> tuple[str, str]:
        package, config = split_config_path(path)
        return package, (renamed_config(config) if path.startswith(f'{OLD}::') else config)

    for module in (mmengine.config.config, mmengine.hub.hub):
        module._get_package_and_cfg_path = split_renamed_config_path

    # First, or the path finder would load mmpretrain's files a second time as mmcls's.
    sys.meta_path.insert(0, _AliasFinder())

    split_scope_key = Registry.split_scope_key

    def split_renamed_key(key: str) -> tuple[str | None, str]:
        scope, name = split_scope_key(key)
        return (NEW if scope == OLD else scope), name

    Registry.split_scope_key = staticmethod(split_renamed_key)

    get = Registry.get

    @functools.wraps(get)
    def get_renamed(self, key: str) -> type | None:
        found = get(self, key)
        if found is None and self.scope == NEW and key in RENAMED_CLASSES:
            return get(self, RENAMED_CLASSES[key])
        return found

    Registry.get = get_renamed

    scope_name = DefaultScope.scope_name.fget
    DefaultScope.scope_name = property(
        lambda self: NEW if scope_name(self) == OLD else scope_name(self),
        doc=DefaultScope.scope_name.__doc__,
    )


def renamed_config(path: str) -> str:
    """The path of a config in mmpretrain from its path in mmcls, both relative to the configs."""
    for old, new in RENAMED_CONFIGS:
        path = re.sub(old, new, path)
    return path


class _AliasFinder(importlib.abc.MetaPathFinder):
    """Finds ``mmcls`` and all below it as the module of the same name in mmpretrain."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition('.')[0] != OLD:
            return None
        real = NEW + fullname[len(OLD) :]
        real = RENAMED_MODULES.get(real, real)
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
        for old, new in RENAMED_CLASSES.items():
            if hasattr(module, new) and not hasattr(module, old):
                setattr(module, old, getattr(module, new))
        return module

    def exec_module(self, module: ModuleType) -> None:
        # The import system has just put the alias's spec on the real module.
        module.__spec__ = self.spec

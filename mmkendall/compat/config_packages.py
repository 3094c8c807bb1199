"""mmengine reads ``package::config`` only for the packages in a fixed table.

``mmkendall::...`` is refused with "mmengine does not support to load mmkendall config". Once it is
read, mmengine takes all that a config of the package names for types of that package: a file with
``_base_ = ['mmkendall::...']`` would look for mmpretrain's and mmdet's types in mmkendall. Our
configs name their own ``default_scope`` and are read as they are. Until mmengine takes any
installed package, and leaves the scope to a config that states one.
"""

from __future__ import annotations

import functools

BREAKS = 'mmengine refuses mmkendall::... config paths: its table of packages is fixed'
PACKAGES = ('mmengine',)

OURS = 'mmkendall'


def is_broken() -> bool:
    from mmengine.config.utils import MODULE2PACKAGE

    return OURS not in MODULE2PACKAGE


def mend() -> None:
    from mmengine.config import Config
    from mmengine.config.utils import MODULE2PACKAGE

    MODULE2PACKAGE[OURS] = OURS
    get_path = Config._get_cfg_path

    @functools.wraps(get_path)
    def get_path_and_scope(cfg_path: str, filename: str) -> tuple[str, str | None]:
        path, scope = get_path(cfg_path, filename)
        return path, None if scope == OURS else scope

    Config._get_cfg_path = staticmethod(get_path_and_scope)

"""mmengine reads ``package::config`` only for the packages in a fixed table.

``mmkendall::...`` is refused with "mmengine does not support to load mmkendall config". Until
mmengine takes any installed package.
"""

BREAKS = 'mmengine refuses mmkendall::... config paths: its table of packages is fixed'
PACKAGES = ('mmengine',)


def is_broken() -> bool:
    from mmengine.config.utils import MODULE2PACKAGE

    return 'mmkendall' not in MODULE2PACKAGE


def mend() -> None:
    from mmengine.config.utils import MODULE2PACKAGE

    MODULE2PACKAGE['mmkendall'] = 'mmkendall'

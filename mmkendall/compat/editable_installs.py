"""mmengine looks for an installed package beside its metadata.

An editable install keeps only the metadata in site-packages, so ``mmkendall::...`` paths of a
``pip install -e .`` point to a folder that is not there. Until mmengine asks the import system.
"""

import functools
import importlib
import os.path as osp
from importlib.util import find_spec

BREAKS = 'package::config paths of an editable install point to a folder that is not there'
PACKAGES = ('mmengine',)

# Where mmengine holds its function by name.
HOLDERS = (
    'mmengine.utils.package_utils',
    'mmengine.utils',
    'mmengine.config.config',
    'mmengine.hub.hub',
)


def is_broken() -> bool:
    from mmengine.utils import get_installed_path

    return not osp.isdir(get_installed_path('mmkendall'))


def mend() -> None:
    from mmengine.utils import get_installed_path

    @functools.wraps(get_installed_path)
    def get_imported_path(package: str) -> str:
        path = get_installed_path(package)
        if osp.isdir(path):
            return path
        spec = find_spec(package)
        return spec.submodule_search_locations[0] if spec else path

    for holder in HOLDERS:
        importlib.import_module(holder).get_installed_path = get_imported_path

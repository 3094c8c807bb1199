"""Mends that keep mmrazor, mmpretrain and mmengine alive on today's torch, numpy and setuptools.

Each mend is a module of this package with

``BREAKS``
    What breaks, in one line, for the report.
``PACKAGES``
    The modules that have to be installed for the mend to matter.
``is_broken() -> bool``
    Whether this environment breaks and is not mended yet. Importing nothing heavy.
``mend() -> None``
    Mends this process. Called only while ``is_broken()``.

Nothing is applied by importing: :func:`apply` does it, for our tools and for whoever asks.
``python -m mmkendall.compat`` prints what is installed, what is broken and what was mended.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

# In the order in which they are applied: an import of mmrazor needs those above it.
MENDS = (
    'numpy_too_new',
    'pkg_resources_missing',
    'torchvision_ops',
    'config_packages',
    'yaml_tags',
    'editable_installs',
    'mmcls_alias',
    'checkpoint_classes',
    'pickled_data',
    'cpu_launch',
    'mmcv_hue',
    'mmrazor_quantization',
)


@dataclass(frozen=True)
class Status:
    """What became of one mend.

    Args:
        name: the module of the mend.
        breaks: what breaks without it.
        state: ``'absent'`` (a package it is about is not installed), ``'fine'`` (nothing is
            broken here), ``'mended'`` or ``'failed'``.
        detail: why it failed, and what to do.
    """

    name: str
    breaks: str
    state: str
    detail: str = ''


_mended: set[str] = set()


def apply() -> list[Status]:
    """Applies every mend that this environment needs; calling it again changes nothing.

    Returns:
        What became of each mend, in the order of ``MENDS``.

    It raises nothing: a mend that fails is reported with state ``'failed'``, since a user may
    never touch what it is about.
    """
    # mmengine imports pkg_resources at every package::config path, and each import warns.
    warnings.filterwarnings('ignore', message='pkg_resources is deprecated')
    return [_apply_one(name) for name in MENDS]


def _apply_one(name: str) -> Status:
    module = import_module(f'{__name__}.{name}')
    if not all(find_spec(package) for package in module.PACKAGES):
        return Status(name, module.BREAKS, 'absent')
    try:
        if module.is_broken():
            module.mend()
            _mended.add(name)
    except Exception as error:
        return Status(name, module.BREAKS, 'failed', f'{type(error).__name__}: {error}')
    return Status(name, module.BREAKS, 'mended' if name in _mended else 'fine')

"""mmengine 0.10.7 imports ``pkg_resources`` for every ``package::config`` path.

setuptools 82 dropped it, so a newer setuptools breaks ``Config.fromfile`` on such a path. It can't
be mended from inside a process. Until mmengine moves to ``importlib.metadata``.
"""

from importlib.util import find_spec

BREAKS = 'mmengine reads package::config paths with pkg_resources, which setuptools 82 dropped'
PACKAGES = ('mmengine',)


def is_broken() -> bool:
    return find_spec('pkg_resources') is None


def mend() -> None:
    raise RuntimeError('run: pip install "setuptools<82"')

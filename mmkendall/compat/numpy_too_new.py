"""torch before 2.3 was built for NumPy 1 and cannot use NumPy 2.

Neither package says so, so pip installs both; torch then warns once and every ``.numpy()`` fails.
It can't be mended from inside a process. Until nobody uses such a torch.
"""

from importlib.metadata import version

BREAKS = 'torch before 2.3 was built for NumPy 1 and cannot use NumPy 2'
PACKAGES = ('torch', 'numpy')


def is_broken() -> bool:
    torch, numpy = (
        tuple(int(part) for part in version(package).split('.')[:2]) for package in PACKAGES
    )
    return torch < (2, 3) and numpy >= (2, 0)


def mend() -> None:
    raise RuntimeError('run: pip install "numpy<2"')

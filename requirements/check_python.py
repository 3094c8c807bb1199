"""Ends `make` in one sentence where this Python or this system cannot run the tested versions."""

import platform
import sys

if sys.platform != 'linux':
    sys.exit(f'The tested versions are for Linux, and this is {sys.platform}.')
if not (3, 10) <= sys.version_info[:2] <= (3, 14):
    sys.exit(
        f'The tested versions are for Python 3.10 to 3.14, and {sys.executable} is '
        f'{platform.python_version()}: name another one, as in `make PYTHON=python3.12`.'
    )
try:
    import ensurepip  # noqa: F401
    import venv  # noqa: F401
except ImportError:
    sys.exit(
        f'{sys.executable} cannot make virtual environments: on Debian and Ubuntu, '
        '`apt-get install python3-venv`.'
    )

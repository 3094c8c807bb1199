"""``python -m mmkendall.compat``: what is installed, what is broken, what was mended."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from mmkendall.compat import apply

PACKAGES = (
    'torch', 'torchvision', 'numpy', 'opencv-python', 'setuptools', 'mmengine', 'mmcv',
    'mmcv-lite', 'mmpretrain', 'mmrazor', 'mmdet', 'mmsegmentation', 'mmkendall',
)  # fmt: skip


def main() -> int:
    """Prints the report; returns 1 when a mend failed."""
    print(f'Python {platform.python_version()}')
    for package in PACKAGES:
        try:
            installed = version(package)
        except PackageNotFoundError:
            installed = 'not installed'
        print(f'  {package:<15} {installed}')
    print()
    statuses = apply()
    for status in statuses:
        print(f'[{status.state:^6}] {status.name}: {status.breaks}')
        if status.detail:
            print(f'         {status.detail}')
    return int(any(status.state == 'failed' for status in statuses))


if __name__ == '__main__':
    sys.exit(main())

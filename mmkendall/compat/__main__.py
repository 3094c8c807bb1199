"""``python -m mmkendall.compat``: what is installed, what is broken, what was mended."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from mmkendall.compat import apply

PACKAGES = (
    'torch', 'torchvision', 'triton', 'numpy', 'numba', 'opencv-python', 'setuptools',
    'mmengine', 'mmcv', 'mmcv-lite', 'mmpretrain', 'mmrazor', 'mmdet', 'mmsegmentation',
    'mmkendall',
)  # fmt: skip


def torch_build() -> str:
    """Which build of torch this is, which its version in the list above leaves out."""
    try:
        import torch
    except ImportError as error:
        return f'torch cannot be imported: {error}'
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return f'torch is the build {torch.__version__}; GPUs: {", ".join(gpus) or "none"}'


def main() -> int:
    """Prints the report; returns 1 when a mend failed."""
    print(f'Python {platform.python_version()}')
    for package in PACKAGES:
        try:
            installed = version(package)
        except PackageNotFoundError:
            installed = 'not installed'
        print(f'  {package:<15} {installed}')
    print(f'  {torch_build()}\n')
    statuses = apply()
    for status in statuses:
        print(f'[{status.state:^6}] {status.name}: {status.breaks}')
        if status.detail:
            print(f'         {status.detail}')
    return int(any(status.state == 'failed' for status in statuses))


if __name__ == '__main__':
    sys.exit(main())

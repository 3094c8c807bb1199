"""Build a wheel, install it with plain pip in a bare environment, train from it by name.

    make check-install

This is what somebody does who has no checkout: `pip wheel .`, then `pip install` with the extras
that the README names, then one epoch of the handwritten digits by the config's name, in a folder
that knows nothing of this one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
EXTRAS = 'lite,numba,demo'
PAIR = 'resnet18-w16_resnet18-w4_1xb64_digits'


def main() -> None:
    # A user's environment, not that of the checkout.
    environment = {name: os.environ[name] for name in os.environ if name != 'PYTHONPATH'}

    def run(*command: str | Path) -> None:
        print('$', *command, flush=True)
        subprocess.run([*map(str, command)], cwd=folder, env=environment, check=True)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(sys.executable, '-m', 'venv', folder / 'bare')
        binaries = folder / 'bare' / 'bin'
        pip = (binaries / 'python', '-m', 'pip')
        # From a copy: what an earlier build left in the checkout must not get into the wheel.
        source = folder / 'source'
        left_out = (
            *('.git', '.venv*', '.wheels', '.hypothesis', '.*_cache', '__pycache__'),
            *('build', 'work_dirs', '*.egg-info'),
        )
        ignore = shutil.ignore_patterns(*left_out)
        shutil.copytree(REPOSITORY, source, symlinks=True, ignore=ignore)
        run(*pip, 'wheel', '--quiet', '--no-deps', '--wheel-dir', folder, source)
        wheel = next(folder.glob('mmkendall-*.whl'))
        run(*pip, 'install', '--quiet', f'{wheel}[{EXTRAS}]')
        run(binaries / 'python', '-m', 'mmkendall.compat')
        one_epoch = ('--cfg-options', 'train_cfg.max_epochs=1')
        teacher = 'mmkendall::digits/resnet18-w16_1xb64_digits.py'
        run(binaries / 'mmkendall', 'train', teacher, '--work-dir', 'teacher', *one_epoch)
        student = f'mmkendall::digits/kd-rank_logits_{PAIR}.py'
        trained = 'model.teacher_ckpt=teacher/epoch_1.pth'
        run(binaries / 'mmkendall', 'train', student, '--work-dir', 'kd', *one_epoch, trained)
        assert (folder / 'kd' / 'epoch_1.pth').is_file()
    print('The wheel installs by plain pip and trains by name.')


if __name__ == '__main__':
    main()

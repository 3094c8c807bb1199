"""Resolve the lock files, every extra and all extras together, for each Python, at both ends.

    make check-install

Nothing is installed: uv asks the package index what would be. For each Python that setup.cfg
names, the newest and the lowest versions that the ranges admit must exist as wheels, go together,
and hold no pair that is known not to work though its metadata allows it. Prints a table, and
returns 1 if a row fails.
"""

from __future__ import annotations

import argparse
import configparser
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

REPOSITORY = Path(__file__).resolve().parents[2]
# Two requirements that no release fulfils together and work, though their metadata says nothing.
BROKEN_PAIRS = (
    ('torch<2.3', 'numpy>=2', 'torch before 2.3 was built for NumPy 1 and cannot use NumPy 2'),
    ('mmengine', 'setuptools>=82', 'mmengine imports pkg_resources, which setuptools 82 dropped'),
    ('mmrazor<=1.0.0', 'mmcv>2.1.0', 'mmrazor 1.0.0 refuses an mmcv above 2.1.0'),
    ('mmrazor<=1.0.0', 'mmcv-lite>2.1.0', 'mmrazor 1.0.0 refuses an mmcv above 2.1.0'),
)
SHOWN = ('torch', 'numpy', 'numba', 'mmcv-lite', 'mmcv', 'triton')
# Of these alone there are versions or systems without a wheel.
BUILT = ('mmcv',)
# Lock files, and the first minor version of Python 3 that each is for.
LOCKS = {'locked.txt': 10, 'locked-det.txt': 10, 'locked-docs.txt': 11}
CLASSIC_LOCK = 'locked-classic.txt'


@dataclass(frozen=True)
class Case:
    """One resolution: the lines of a requirements file, for a Python, at one end."""

    python: str
    what: str
    end: str
    lines: str


def cases() -> list[Case]:
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / 'setup.cfg')
    pythons = re.findall(r'Python :: (3\.\d+)', setup['metadata']['classifiers'])
    extras = dict(setup['options.extras_require'])
    wanted = {'no extra': [], **{extra: [extra] for extra in extras}, 'all extras': [*extras]}
    found = []
    for python in pythons:
        for what, chosen in wanted.items():
            lines = [setup['options']['install_requires'], *(extras[extra] for extra in chosen)]
            # An extra that names another one of ours.
            text = re.sub(r'mmkendall\[(\w+)]', lambda own: extras[own[1]], '\n'.join(lines))
            found += [Case(python, what, end, text) for end in ('highest', 'lowest-direct')]
        for lock, first in LOCKS.items():
            if int(python.split('.')[1]) < first:
                continue
            text = (REPOSITORY / 'requirements' / lock).read_text()
            found.append(Case(python, lock, 'locked', text))
    text = (REPOSITORY / 'requirements' / CLASSIC_LOCK).read_text()
    return [*found, Case('3.11', CLASSIC_LOCK, 'locked', text)]


def resolve(uv: str, case: Case) -> tuple[dict[str, Version], str]:
    """The versions that uv chooses, and why it cannot, or an empty string."""
    command = [
        *(uv, 'pip', 'compile', '--quiet', '--no-header', '--no-annotate', '--no-config'),
        *('--python-version', case.python, '--python-platform', 'x86_64-manylinux_2_28'),
        *('--only-binary', ':all:', '--build-constraints', 'requirements/build.txt'),
        *(part for name in BUILT for part in ('--no-binary', name)),
        '-',
    ]
    if case.end == 'lowest-direct':
        command += ['--resolution', case.end]
    if case.what == CLASSIC_LOCK:
        command += ['--excludes', 'requirements/classic-excludes.txt']
    done = subprocess.run(
        command, input=case.lines, cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    lines = re.findall(r'^([\w.-]+)==([^\s;]+)', done.stdout, re.MULTILINE)
    versions = {name: Version(version) for name, version in lines}
    return versions, ' '.join(done.stderr.split()) if done.returncode else ''


def broken_pair(versions: dict[str, Version]) -> str:
    """Why two of the versions do not go together, or an empty string."""
    for first, second, why in BROKEN_PAIRS:
        both = [Requirement(first), Requirement(second)]
        if all(one.name in versions and versions[one.name] in one.specifier for one in both):
            chosen = ' with '.join(f'{one.name} {versions[one.name]}' for one in both)
            return f'{chosen}: {why}'
    return ''


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--uv', default='uv', help='the uv to resolve with')
    uv = str(Path(parser.parse_args().uv).resolve())
    head = ('Python', 'what', 'versions', *SHOWN, 'verdict')
    row_format = '{:<7}{:<19}{:<14}' + '{:<11}' * len(SHOWN) + '{}'
    print(row_format.format(*head), flush=True)
    failed = 0
    everything = cases()
    with ThreadPoolExecutor(6) as pool:
        for case, (versions, error) in zip(
            everything, pool.map(lambda case: resolve(uv, case), everything), strict=True
        ):
            why = error or broken_pair(versions)
            failed += bool(why)
            shown = (str(versions.get(name, '-')) for name in SHOWN)
            verdict = f'FAILS: {why}' if why else 'ok'
            print(row_format.format(case.python, case.what, case.end, *shown, verdict), flush=True)
    print(f'{len(everything) - failed} of {len(everything)} resolve; no package was installed.')
    return int(failed > 0)


if __name__ == '__main__':
    sys.exit(main())

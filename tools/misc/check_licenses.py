"""Check that every package that mmkendall brings along leaves its users free.

    python tools/misc/check_licenses.py

Reads what the installed packages say of themselves: those that setup.cfg requires, with all of its
extras, and what they require in turn. A licence that is unknown, or that would bind who uses or
ships the package (GPL, AGPL, LGPL, non-commercial), is an error. What is not installed is left
out, so run it where the extras are.
"""

from __future__ import annotations

import argparse
import re
import sys
from configparser import ConfigParser
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

SETUP = Path(__file__).resolve().parents[2] / 'setup.cfg'

# CUDA's libraries come with PyPI's build of torch for Linux, under licences of NVIDIA's own.
CUDA = re.compile(r'(nvidia|cuda)-')
# Names of SPDX. MPL-2.0 binds changes of the package's own files alone.
ALLOWED = {
    '0BSD', 'Apache-2.0', 'BSD-2-Clause', 'BSD-3-Clause', 'BSL-1.0', 'CC0-1.0', 'HPND', 'ISC',
    'MIT', 'MIT-CMU', 'MPL-2.0', 'PSF-2.0', 'Python-2.0', 'Unlicense', 'Zlib',
}  # fmt: skip
# How packages without an expression of SPDX call them, in a classifier or in a short text.
NAMES = {
    '3-clause bsd license': 'BSD-3-Clause',
    'apache 2.0': 'Apache-2.0',
    'apache license 2.0': 'Apache-2.0',
    'apache license, version 2.0': 'Apache-2.0',
    'apache software license': 'Apache-2.0',
    'apache software license 2.0': 'Apache-2.0',
    'bsd': 'BSD-3-Clause',
    'bsd license': 'BSD-3-Clause',
    'bsd-3': 'BSD-3-Clause',
    'isc license (iscl)': 'ISC',
    'mit license': 'MIT',
    'mozilla public license 2.0 (mpl 2.0)': 'MPL-2.0',
    'new bsd': 'BSD-3-Clause',
    'python software foundation license': 'PSF-2.0',
    'the unlicense (unlicense)': 'Unlicense',
}
# Packages whose metadata says nothing, by the licence file in their sources.
KNOWN = {
    'pycocotools': 'BSD-2-Clause',
    'shapely': 'BSD-3-Clause',
}


def requirements() -> list[Requirement]:
    """What setup.cfg names, with all of its extras."""
    setup = ConfigParser()
    setup.read(SETUP)
    lines = [setup['options']['install_requires'], *setup['options.extras_require'].values()]
    return [Requirement(line) for text in lines for line in text.splitlines() if line]


def installed(wanted: list[Requirement]) -> dict[str, Distribution]:
    """The distributions that are required and installed, by name, through all levels."""
    found: dict[str, Distribution] = {}
    waiting, seen = list(wanted), set()
    while waiting:
        requirement = waiting.pop()
        key = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if key in seen:
            continue
        seen.add(key)
        try:
            found[key[0]] = package = distribution(requirement.name)
        except PackageNotFoundError:
            continue
        for line in package.requires or []:
            inner = Requirement(line)
            extras = requirement.extras or {''}
            if inner.marker is None or any(inner.marker.evaluate({'extra': e}) for e in extras):
                waiting.append(inner)
    return found


def license_of(package: Distribution) -> str | None:
    """The licence as an expression of SPDX, or None if the package doesn't say."""
    meta = package.metadata
    if meta.get('License-Expression'):
        return meta['License-Expression']
    classified = [
        line.rpartition('::')[2].strip()
        for line in meta.get_all('Classifier') or []
        if line.startswith('License ::')
    ]
    text = (meta.get('License') or '').strip()
    stated = [name for name in [*classified, text if len(text) < 60 else ''] if name]
    for name in stated:
        if name.lower() in NAMES:
            return NAMES[name.lower()]
        if is_allowed(name):
            return name
    known = KNOWN.get(canonicalize_name(package.name))
    return known or (' / '.join(stated) if stated and stated != ['UNKNOWN'] else None)


def is_allowed(expression: str) -> bool:
    """Whether an expression of SPDX can be met by allowed licences alone."""
    parts = re.split(r'\s+(AND|OR)\s+|([()])', re.sub(r'\s+WITH\s+[\w.-]+', '', expression))
    words = [part.strip() for part in parts if part and part.strip()]
    logic = {'AND': 'and', 'OR': 'or', '(': '(', ')': ')'}
    truth = [logic.get(word, str(word in ALLOWED)) for word in words]
    formula = ' '.join(truth)
    if re.search(r'(True|False|\)) (True|False|\()', formula):  # A text that is no expression.
        return False
    try:
        # Nothing but True, False, and, or, and brackets.
        return bool(eval(formula, {'__builtins__': {}}))
    except SyntaxError:
        return False


def main() -> int:
    argparse.ArgumentParser(description=__doc__.split('\n')[0]).parse_args()
    refused, of_cuda = [], []
    for name, package in sorted(installed(requirements()).items()):
        if CUDA.match(name):
            of_cuda.append(name)
            continue
        expression = license_of(package)
        good = expression is not None and is_allowed(expression)
        print(f'{"ok     " if good else "REFUSED"} {name} {package.version}: {expression}')
        if not good:
            refused.append(f'{name} ({expression or "says nothing"})')
    if of_cuda:
        print(
            f'noted   {len(of_cuda)} packages of CUDA, under licences of NVIDIA, which this build '
            'of torch brings along and a CPU build does not'
        )
    if refused:
        print(
            f'check_licenses.py: error: the licence of {", ".join(refused)} is unknown or binds '
            'users: leave the package out, or add what its sources say to KNOWN',
            file=sys.stderr,
        )
    return bool(refused)


if __name__ == '__main__':
    sys.exit(main())

"""What the package brings along leaves its users free."""

from __future__ import annotations

import sys
from importlib.metadata import PathDistribution

import pytest
import torch

from ..conftest import call_tool, load_tool

TOOL = 'misc/check_licenses.py'


modern = pytest.mark.skipif(
    torch.__version__ < '2', reason='Debian keeps licences in files of its own'
)


@modern
def test_every_installed_package(monkeypatch, capsys):
    assert call_tool(monkeypatch, TOOL) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    for name in ('torch', 'mmengine', 'mmrazor', 'mmpretrain', 'numba', 'scipy', 'tqdm'):
        assert f'ok      {name} ' in out
    if sys.platform == 'linux':
        assert out.count('\n') > 30


@pytest.mark.parametrize(
    ('metadata', 'expected', 'good'),
    [
        ('License-Expression: MIT OR GPL-3.0-only', 'MIT OR GPL-3.0-only', True),
        ('License-Expression: MIT AND GPL-3.0-only', 'MIT AND GPL-3.0-only', False),
        ('License-Expression: (MIT OR LGPL-2.1) AND BSD-3-Clause', None, True),
        ('License-Expression: Apache-2.0 WITH LLVM-exception', None, True),
        ('Classifier: License :: OSI Approved :: BSD License', 'BSD-3-Clause', True),
        (
            'Classifier: License :: OSI Approved :: GNU Affero General Public License v3',
            None,
            False,
        ),
        ('License: CC BY-NC 4.0', 'CC BY-NC 4.0', False),
        ('License: MIT', 'MIT', True),
        ('License: Public domain (see below)', None, False),
        ('License: UNKNOWN', None, False),
        ('Summary: nothing', None, False),
    ],
)
def test_licences(metadata, expected, good, tmp_path):
    tool = load_tool(TOOL)
    folder = tmp_path / 'thing-1.dist-info'
    folder.mkdir()
    (folder / 'METADATA').write_text(
        f'Metadata-Version: 2.4\nName: thing\nVersion: 1\n{metadata}\n'
    )
    found = tool.license_of(PathDistribution(folder))
    if expected is not None:
        assert found == expected
    assert (found is not None and tool.is_allowed(found)) == good


@modern
def test_a_bad_licence_is_an_error(monkeypatch, capsys):
    tool = load_tool(TOOL)
    monkeypatch.setattr('sys.argv', ['check_licenses.py'])
    monkeypatch.setattr(tool, 'ALLOWED', tool.ALLOWED - {'MPL-2.0'})
    assert tool.main() == 1
    # With the site's packages certifi is another one.
    said = capsys.readouterr().err
    assert 'error: the licence of ' in said
    assert 'tqdm (MPL-2.0 AND MIT)' in said

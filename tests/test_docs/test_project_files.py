"""What stands in two places is the same in both, and links lead somewhere."""

from __future__ import annotations

import configparser
import re
import subprocess

import pytest
import yaml

from mmkendall import __version__

from ..conftest import REPOSITORY

SETUP = configparser.ConfigParser()
SETUP.read(REPOSITORY / 'setup.cfg')


def markdown() -> list[str]:
    """The names of all Markdown files of the repository."""
    command = ['git', 'ls-files', '--cached', '--others', '--exclude-standard', '*.md']
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return sorted(name for name in done.stdout.split() if (REPOSITORY / name).exists())


def anchors(text: str) -> set[str]:
    """Those of the headings, as GitHub and the site make them."""
    headings = re.findall(r'^#+ (.*)$', re.sub(r'^```.*?^```', '', text, flags=re.M | re.S), re.M)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('name', markdown())
def test_links_within_the_repository(name):
    """The site checks its pages; this holds for README, too, and in a checkout."""
    path = REPOSITORY / name
    text = re.sub(r'^```.*?^```', '', path.read_text(), flags=re.M | re.S)
    for link in re.findall(r'\]\(([^)\s]+)\)|(?:src|srcset)="([^"]+)"', text):
        target, _, anchor = (link[0] or link[1]).partition('#')
        if re.match(r'[a-z]+:', target):
            continue
        found = path.parent / target if target else path
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found.read_text()), f'{target}#{anchor}'


def test_every_page_has_a_place_on_the_site():
    index = (REPOSITORY / 'docs/index.md').read_text()
    for name in markdown():
        if name.startswith('docs/') and name != 'docs/index.md':
            stem = name.removeprefix('docs/').removesuffix('.md')
            assert re.search(rf'^(?:.* <)?{re.escape(stem)}>?$', index, re.M), name


def test_readme_is_short():
    assert len((REPOSITORY / 'README.md').read_text().splitlines()) <= 100


def test_pre_commit_has_the_ruff_of_the_lock_file():
    locked = re.search(r'^ruff==(\S+)', (REPOSITORY / 'requirements/locked.txt').read_text(), re.M)
    hooks = yaml.safe_load((REPOSITORY / '.pre-commit-config.yaml').read_text())
    (ruff,) = [repo for repo in hooks['repos'] if 'ruff' in repo['repo']]
    assert ruff['rev'] == f'v{locked[1]}'
    assert [hook['id'] for hook in ruff['hooks']] == ['ruff-check', 'ruff-format']


def test_workflows_run_what_ci_runs_on_pythons_that_setup_cfg_names():
    text = (REPOSITORY / '.github/workflows/ci.yml').read_text()
    workflow = yaml.safe_load(text)
    assert workflow['permissions'] == {'contents': 'read'}
    pythons = workflow['jobs']['test']['strategy']['matrix']['python']
    assert set(pythons) <= set(re.findall(r'Python :: (3\.\d+)', SETUP['metadata']['classifiers']))
    steps = re.findall(r'^\s*step (make [\w-]+)', (REPOSITORY / '.ci/run').read_text(), re.M)
    assert {'make lint', 'make test', 'make docs'} <= set(steps)
    assert [step for step in [*steps, 'make check-install'] if f'- run: {step}' not in text] == []


def test_citation_is_of_this_version():
    citation = yaml.safe_load((REPOSITORY / 'CITATION.cff').read_text())
    assert citation['version'] == __version__
    assert citation['license'] == SETUP['metadata']['license']


def test_a_report_of_a_fault_asks_for_the_environment():
    form = yaml.safe_load((REPOSITORY / '.github/ISSUE_TEMPLATE/bug_report.yml').read_text())
    (field,) = [item for item in form['body'] if item.get('id') == 'compat']
    assert 'python -m mmkendall.compat' in field['attributes']['label']
    assert field['validations']['required']

"""The figures of the pages are those of tables that a command wrote.

Between ``<!-- csv: PATH ... -->`` and ``<!-- csv end -->`` every number with a decimal point or an
exponent is a value of one of the files, rounded. Pages of results hold no table of such numbers
outside, and some no such number at all: options stand in code there, and formulas between dollars.
A file may also be a result file of the zoo, or a page that a tool writes from such files, which a
test of that page checks; a pattern stands for all that fit.
"""

from __future__ import annotations

import csv
import json
import re
from decimal import Decimal
from pathlib import Path

import pytest

from ..conftest import REPOSITORY

BLOCK = re.compile(r'<!-- csv: (?P<paths>.+?) -->\n(?P<text>.*?)<!-- csv end -->', re.DOTALL)
NUMBER = re.compile(r'(?<![\w.])[-+−]?(?:\d+\.\d+|\d+(?:\.\d+)?e-?\d+)(?!\w|\.\d)')
# What is no result: code, which is options or what a test of its own runs, and formulas.
CODE = re.compile(r'^```.*?^```$|`[^`]*`|\$[^$]*\$', re.DOTALL | re.MULTILINE)
# Pages that say what came out of trainings.
RESULTS = ('docs/digits.md', 'docs/does_it_help.md')
# Those whose every number is found.
STRICT = ('docs/analyses.md', 'docs/choose.md', 'docs/teachers.md')
# But for what a command of the page prints and no table holds.
PRINTED = {
    'docs/analyses.md': ['93.31'],
    # Which tests/test_tools/test_scores_to_teacher_logits.py compares with what is printed.
    'docs/teachers.md': ['98.5', '97.1', '90.3', '97.5'],
}
PAGES = [path for path in (REPOSITORY / 'docs').glob('*.md')] + [REPOSITORY / 'README.md']


def values_of(path: Path) -> list[Decimal]:
    """Every number in a CSV, those in names and settings included, or in a page of a tool.

    Of a result file only the metrics of the end, which alone may be reported.
    """
    if path.suffix == '.json':
        return [
            Decimal(f'{value:.6g}') for value in json.loads(path.read_text())['metrics'].values()
        ]
    if path.suffix == '.md':
        return [abs(Decimal(number)) for number in NUMBER.findall(path.read_text())]
    found = []
    with open(path, newline='') as file:
        for row in csv.reader(file):
            for cell in row:
                try:
                    found.append(abs(Decimal(cell)))
                except ArithmeticError:
                    found += map(Decimal, re.findall(r'\d+\.\d+', cell))
    return [value for value in found if value.is_finite()]


def missing(text: str, values: list[Decimal]) -> list[str]:
    """The numbers of a text that are none of the values."""
    lacking = []
    for number in NUMBER.findall(CODE.sub('', text)):
        wanted = abs(Decimal(number.replace('−', '-')))
        # Half a unit of the last digit, and what writing the CSV rounded.
        step = Decimal(1).scaleb(wanted.as_tuple().exponent)
        if not any(abs(value - wanted) <= step * Decimal('0.5001') for value in values):
            lacking.append(number)
    return lacking


@pytest.mark.parametrize('page', PAGES, ids=lambda path: path.name)
def test_every_number_is_in_its_table(page):
    for block in BLOCK.finditer(page.read_text()):
        values = []
        for pattern in block['paths'].split():
            files = list(REPOSITORY.glob(pattern))
            assert files, f'{page.name}: there is no {pattern}'
            values += [value for path in files for value in values_of(path)]
        assert NUMBER.search(block['text']), f'{page.name}: a block without numbers'
        assert not missing(block['text'], values), f'{page.name}: {block["paths"]}'


@pytest.mark.parametrize('page', RESULTS)
def test_pages_of_results_hold_no_other_tables_of_numbers(page):
    outside = BLOCK.sub('', (REPOSITORY / page).read_text())
    rows = [line for line in outside.splitlines() if line.startswith('|') and NUMBER.search(line)]
    assert not rows


@pytest.mark.parametrize('page', STRICT)
def test_strict_pages_hold_no_number_that_is_not_looked_up(page):
    outside = CODE.sub('', BLOCK.sub('', (REPOSITORY / page).read_text()))
    assert NUMBER.findall(outside) == PRINTED.get(page, [])


def test_a_number_that_is_not_there_is_found(tmp_path):
    path = tmp_path / 'table.csv'
    path.write_text('arm,top1,sd\nKD,81.2345,0.05\n')
    assert missing('KD 81.23 ± 0.05', values_of(path)) == []
    assert missing('KD 81.24 ± 0.5', values_of(path)) == ['81.24', '0.5']
    # At the end of a sentence, with an exponent, and of a version or an option.
    text = 'It is 81.9. Or 4e-8, by torch 2.13.0 and `lr=0.3`, with $0.5 T$.'
    assert missing(text, values_of(path)) == ['81.9', '4e-8']
    path.with_suffix('.md').write_text('| KD | 81.94 ± 0.05 |')
    assert missing(text, values_of(path.with_suffix('.md'))) == ['4e-8']

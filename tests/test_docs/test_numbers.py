"""The figures of the pages are those of tables that a command wrote.

Between ``<!-- csv: PATH ... -->`` and ``<!-- csv end -->`` every number with a decimal point is a
value of one of the files, rounded. Pages of results hold no table of such numbers outside.
"""

from __future__ import annotations

import csv
import re
from decimal import Decimal
from pathlib import Path

import pytest

from ..conftest import REPOSITORY

BLOCK = re.compile(r'<!-- csv: (?P<paths>.+?) -->\n(?P<text>.*?)<!-- csv end -->', re.DOTALL)
NUMBER = re.compile(r'(?<![\w.])[-+−]?\d+\.\d+(?![\w.])')
# Pages that say what came out of trainings.
RESULTS = ('docs/digits.md', 'docs/does_it_help.md')
PAGES = [path for path in (REPOSITORY / 'docs').glob('*.md')] + [REPOSITORY / 'README.md']


def values_of(path: Path) -> list[Decimal]:
    """Every number in a CSV, those in names and settings included."""
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
    for number in NUMBER.findall(text):
        wanted = abs(Decimal(number.replace('−', '-')))
        # Half a unit of the last digit, and what writing the CSV rounded.
        step = Decimal(1).scaleb(wanted.as_tuple().exponent)
        if not any(abs(value - wanted) <= step * Decimal('0.5001') for value in values):
            lacking.append(number)
    return lacking


@pytest.mark.parametrize('page', PAGES, ids=lambda path: path.name)
def test_every_number_is_in_its_table(page):
    for block in BLOCK.finditer(page.read_text()):
        values = [
            value for path in block['paths'].split() for value in values_of(REPOSITORY / path)
        ]
        assert NUMBER.search(block['text']), f'{page.name}: a block without numbers'
        assert not missing(block['text'], values), f'{page.name}: {block["paths"]}'


@pytest.mark.parametrize('page', RESULTS)
def test_pages_of_results_hold_no_other_tables_of_numbers(page):
    outside = BLOCK.sub('', (REPOSITORY / page).read_text())
    rows = [line for line in outside.splitlines() if line.startswith('|') and NUMBER.search(line)]
    assert not rows


def test_a_number_that_is_not_there_is_found(tmp_path):
    path = tmp_path / 'table.csv'
    path.write_text('arm,top1,sd\nKD,81.2345,0.05\n')
    assert missing('KD 81.23 ± 0.05', values_of(path)) == []
    assert missing('KD 81.24 ± 0.5', values_of(path)) == ['81.24', '0.5']

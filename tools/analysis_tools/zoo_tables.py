"""Make the tables in the READMEs of configs/ from the metafiles that model-index.yml names.

    python tools/analysis_tools/zoo_tables.py
    python tools/analysis_tools/zoo_tables.py --check

A README says where with a pair of comments, ``<!-- zoo: NAME OF A COLLECTION -->`` and
``<!-- zoo end -->``; what stands between them is replaced.
"""

from __future__ import annotations

import argparse
import os.path as osp
import re
import sys
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r'(<!-- zoo: (?P<name>.+?) -->\n).*?(<!-- zoo end -->)', re.DOTALL)
TOP1 = 'Top 1 Accuracy (reported)'
# What metafiles report of a teacher, and the heading of the column.
OF_TEACHERS = {
    'Teacher box AP (reported)': 'AP(T)',
    'Teacher mIoU (reported)': 'mIoU(T)',
}


def read_zoo(root: Path = REPOSITORY) -> tuple[list[dict], list[dict]]:
    """The collections and the models of all metafiles."""
    collections, models = [], []
    for path in yaml.safe_load((root / 'model-index.yml').read_text())['Import']:
        metafile = yaml.safe_load((root / path).read_text())
        collections += metafile.get('Collections', [])
        models += metafile.get('Models', [])
    return collections, models


def top1(model: dict) -> str:
    """The reported top-1 of a model, or nothing."""
    results = model.get('Results')
    return f'{results[0]["Metrics"][TOP1]:.2f}' if results else ''


def make_table(models: list[dict], folder: str, alone: dict[tuple[str, str], str]) -> str:
    """The table of one collection, in Markdown.

    Args:
        models: its entries.
        folder: that of the README, for links.
        alone: reported top-1 of networks without a teacher, by data set and network.
    """
    rows: dict[str, dict[str, str]] = {}
    sources = set()
    teacher_sources: dict[str, set[str]] = {}
    for model in models:
        ranked = '-rank' in model['Name']
        about = model.get('Metadata', {})
        row = rows.setdefault(model['Name'].replace('-rank', ''), {})
        for key in ('Network', 'Teacher', 'Student'):
            row[key] = about.get(key, '')
        if not row['Network'] and not row['Teacher']:
            row['Experiment'] = model['Name'].replace('-rank', '')
        for heading, key in (('Acc(T)', 'Teacher'), ('Acc(S)', 'Student')):
            data = model['Config'].split('/')[1]
            row[heading] = alone.get((data, row[key]), '')
        for key, heading in OF_TEACHERS.items():
            if key in about:
                row[heading] = str(about[key])
                teacher_sources.setdefault(heading, set()).add(about['Teacher Source'])
        if top1(model):
            row['Top-1 with ranking' if ranked else 'Top-1'] = top1(model)
            sources.add(model['Results'][0]['Source'])
        link = f'[config]({osp.relpath(model["Config"], folder)})'
        row['with ranking' if ranked else 'config'] = link
        if 'Base Config' in about:
            row['config'] = f'`{about["Base Config"]}`'
    headings = (
        'Experiment', 'Network', 'Teacher', 'Student', 'Acc(T)', 'Acc(S)',
        *OF_TEACHERS.values(), 'Top-1', 'Top-1 with ranking', 'config', 'with ranking',
    )  # fmt: skip
    headings = [name for name in headings if any(row.get(name) for row in rows.values())]
    lines = ['| ' + ' | '.join(headings) + ' |', '|---' * len(headings) + '|']
    lines += [
        '| ' + ' | '.join(row.get(name, '') for name in headings) + ' |' for row in rows.values()
    ]
    if sources:
        lines += ['', f'Top-1 as reported by {", ".join(sorted(sources))}; not measured here.']
    for heading, names in teacher_sources.items():
        lines += ['', f'{heading} as reported by {", ".join(sorted(names))}; not measured here.']
    return '\n'.join(lines) + '\n'


def fill(readme: str, text: str, collections: list[dict], models: list[dict]) -> str:
    """The text of a README with its tables anew.

    Args:
        readme: its path in the repository.
        text: what it holds now.
        collections: all of the zoo.
        models: all of the zoo.

    Raises:
        ValueError: a comment names a collection that doesn't exist, or a collection that belongs
            to this README has no comment in it.
    """
    mine = {entry['Name'] for entry in collections if entry.get('README') == readme}
    named = {match['name'] for match in BLOCK.finditer(text)}
    if mine != named:
        raise ValueError(
            f'{readme} needs one "<!-- zoo: NAME -->" and "<!-- zoo end -->" for each of its '
            f'collections: {", ".join(sorted(mine ^ named))} is in the metafiles or in the README '
            'alone'
        )
    alone = {
        (model['Config'].split('/')[1], model['Metadata']['Network']): top1(model)
        for model in models
        if 'Network' in model.get('Metadata', {})
    }

    def table(match: re.Match) -> str:
        chosen = [model for model in models if model['In Collection'] == match['name']]
        return match[1] + make_table(chosen, osp.dirname(readme), alone) + match[3]

    return BLOCK.sub(table, text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--check', action='store_true', help='write nothing; fail if any differs')
    args = parser.parse_args()
    collections, models = read_zoo()
    stale = []
    for readme in sorted({entry['README'] for entry in collections}):
        path = REPOSITORY / readme
        before = path.read_text()
        try:
            after = fill(readme, before, collections, models)
        except ValueError as error:
            print(f'zoo_tables.py: error: {error}', file=sys.stderr)
            return 2
        if after == before:
            continue
        stale.append(readme)
        if not args.check:
            path.write_text(after)
    for readme in stale:
        print(f'{readme}: ' + ('the tables are out of date' if args.check else 'tables written'))
    return int(args.check and bool(stale))


if __name__ == '__main__':
    sys.exit(main())

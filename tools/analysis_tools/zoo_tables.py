"""Make the tables in the READMEs of configs/ from metafiles and result files.

    python tools/analysis_tools/zoo_tables.py
    python tools/analysis_tools/zoo_tables.py --check

A README says where with a pair of comments, ``<!-- zoo: NAME OF A COLLECTION -->`` and
``<!-- zoo end -->``; what stands between them is replaced. "original" is what others report, from
the metafiles that model-index.yml names; "here" and "log" are the result files that import_run.py
wrote.
"""

from __future__ import annotations

import argparse
import os.path as osp
import re
import statistics
import sys
from pathlib import Path

from mmkendall import compat

compat.apply()

from mmkendall.studies.zoo import measure_of, read_results, read_zoo  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r'(<!-- zoo: (?P<name>.+?) -->\n).*?(<!-- zoo end -->)', re.DOTALL)
TOP1 = 'Top 1 Accuracy (reported)'
# What metafiles report of a teacher, and the heading of the column.
OF_TEACHERS = {
    'Teacher box AP (reported)': 'AP(T)',
    'Teacher mIoU (reported)': 'mIoU(T)',
}
HEADINGS = (
    'Experiment', 'Network', 'Teacher', 'Student', 'Acc(T)', 'Acc(S)', *OF_TEACHERS.values(),
    'ranking', 'original', 'here', 'log', 'config', 'weights',
)  # fmt: skip
ALWAYS = ('original', 'here', 'log')


def figure(value: float) -> str:
    """A figure with two decimals, or with more where they were reported."""
    short = f'{value:.2f}'
    return short if float(short) == value else str(value)


def top1(model: dict) -> str:
    """The reported top-1 of a model, or nothing."""
    results = model.get('Results')
    return figure(results[0]['Metrics'][TOP1]) if results else ''


def measured(config: str, folder: str, results: dict[str, dict]) -> dict[str, str]:
    """The cells "here" and "log" of a config.

    Args:
        config: its path.
        folder: that of the README, for links and for the measure.
        results: the result files by their path.
    """
    measure = measure_of(osp.basename(folder))
    values, logs = [], []
    for path, result in results.items():
        if result['config'] != config:
            continue
        changed = 'changed, ' if result['changed'] else ''
        logs.append(f'[{changed}seed {result["seed"]}]({osp.relpath(path, folder)})')
        if not changed:
            values.append(measure.scale * result['metrics'][measure.key])
    here = f'{statistics.fmean(values):.2f}' if values else 'not run'
    if len(values) > 1:
        here += f' ± {statistics.stdev(values):.2f} ({len(values)} runs)'
    return {'here': here, 'log': ' '.join(logs)}


def rows_of(
    model: dict, folder: str, alone: dict[tuple[str, str], str], results: dict[str, dict]
) -> list[dict[str, str]]:
    """The row of a config, and before it that of the config of mmrazor that it adds to, if any."""
    about = model.get('Metadata', {})
    row = {key: about.get(key, '') for key in ('Network', 'Teacher', 'Student')}
    if not row['Network'] and not row['Teacher']:
        row['Experiment'] = model['Name'].replace('-rank', '')
    data = model['Config'].split('/')[1]
    for heading, key in (('Acc(T)', 'Teacher'), ('Acc(S)', 'Student')):
        given = about.get(f'{key} {TOP1}')
        row[heading] = figure(given) if given else alone.get((data, row[key]), '')
    for key, heading in OF_TEACHERS.items():
        row[heading] = str(about.get(key, ''))
    own = {
        **row,
        'ranking': 'yes' if '-rank' in model['Name'] else '',
        'original': top1(model),
        'config': f'[config]({osp.relpath(model["Config"], folder)})',
        **measured(model['Config'], folder, results),
    }
    base = about.get('Base Config')
    if base is None:
        return [own]
    plain = {
        **row,
        'original': figure(about[f'Base {TOP1}']),
        'config': f'`{base}`',
        'weights': f'[weights]({about["Base Weights"]})',
        **measured(base, folder, results),
    }
    return [plain, own]


def sources_of(models: list[dict]) -> list[str]:
    """The sentences below a table that say who reports its figures."""
    sources: dict[str, set[str]] = {}
    for model in models:
        about = model.get('Metadata', {})
        for result in model.get('Results', []):
            sources.setdefault('original', set()).add(result['Source'])
        if 'Base Source' in about:
            sources.setdefault('original, Acc(T) and Acc(S)', set()).add(about['Base Source'])
        for key, heading in OF_TEACHERS.items():
            if key in about:
                sources.setdefault(heading, set()).add(about['Teacher Source'])
    return [
        f'{heading}: as reported by {", ".join(sorted(names))}.'
        for heading, names in sources.items()
    ]


def make_table(
    models: list[dict],
    folder: str,
    alone: dict[tuple[str, str], str],
    results: dict[str, dict],
) -> str:
    """The table of one collection, in Markdown.

    Args:
        models: its entries.
        folder: that of the README, for links.
        alone: reported top-1 of networks without a teacher, by data set and network.
        results: the result files by their path.
    """
    rows = [row for model in models for row in rows_of(model, folder, alone, results)]
    headings = [name for name in HEADINGS if name in ALWAYS or any(row.get(name) for row in rows)]
    lines = ['| ' + ' | '.join(headings) + ' |', '|---' * len(headings) + '|']
    lines += ['| ' + ' | '.join(row.get(name, '') for name in headings) + ' |' for row in rows]
    for sentence in sources_of(models):
        lines += ['', sentence]
    return '\n'.join(lines) + '\n'


def fill(
    readme: str,
    text: str,
    collections: list[dict],
    models: list[dict],
    results: dict[str, dict],
) -> str:
    """The text of a README with its tables anew.

    Args:
        readme: its path in the repository.
        text: what it holds now.
        collections: all of the zoo.
        models: all of the zoo.
        results: the result files by their path.

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
        return match[1] + make_table(chosen, osp.dirname(readme), alone, results) + match[3]

    return BLOCK.sub(table, text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--check', action='store_true', help='write nothing; fail if any differs')
    args = parser.parse_args()
    collections, models = read_zoo(REPOSITORY)
    stale = []
    try:
        results = read_results(REPOSITORY, models)
    except ValueError as error:
        print(f'zoo_tables.py: error: {error}', file=sys.stderr)
        return 2
    for readme in sorted({entry['README'] for entry in collections}):
        path = REPOSITORY / readme
        before = path.read_text()
        try:
            after = fill(readme, before, collections, models, results)
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

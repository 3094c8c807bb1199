"""The metafiles name every config, the READMEs and the written configs are up to date."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from mmkendall.studies.zoo import experiments, read_results, read_zoo, result_fault

from ..conftest import REPOSITORY

DIGITS = 'configs/digits/README.md'


def load_tool(path: str):
    """A script of tools/ as a module."""
    name = path.rpartition('/')[2]
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / 'tools' / f'{path}.py')
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


make_configs = load_tool('make_configs')
zoo_tables = load_tool('analysis_tools/zoo_tables')


@pytest.fixture(scope='module')
def zoo():
    return read_zoo(REPOSITORY)


@pytest.fixture(scope='module')
def results(zoo):
    return read_results(REPOSITORY, zoo[1])


def test_every_config_is_listed_and_every_listed_one_exists(zoo):
    configs = REPOSITORY / 'configs'
    found = {
        path.relative_to(REPOSITORY).as_posix()
        for path in configs.glob('*/**/*.py')
        if path.relative_to(configs).parts[0] not in ('_base_', 'studies', 'own_data')
    }
    listed = [model['Config'] for model in zoo[1]]
    assert len(listed) == len(set(listed))
    assert set(listed) == found


def test_every_metafile_is_imported():
    imported = yaml.safe_load((REPOSITORY / 'model-index.yml').read_text())['Import']
    found = [
        path.relative_to(REPOSITORY).as_posix()
        for path in (REPOSITORY / 'configs').glob('**/metafile.yml')
    ]
    assert sorted(imported) == sorted(found)


def test_names(zoo):
    collections, models = zoo
    names = [model['Name'] for model in models]
    assert len(names) == len(set(names))
    for model in models:
        assert model['Config'].endswith(f'/{model["Name"]}.py')
        teacher = model.get('Metadata', {}).get('Teacher Config')
        assert teacher is None or (REPOSITORY / teacher).is_file()
    of = {entry['Name'] for entry in collections}
    assert len(of) == len(collections)
    assert {model['In Collection'] for model in models} == of


def test_figures_are_marked_as_reported_and_have_a_source(zoo):
    results = [result for model in zoo[1] for result in model.get('Results', [])]
    # 5 methods on 14 pairs, DIST on 5, MRKD on 9, WTTM on 10, 14 networks alone, and 4 methods on
    # 2 pairs of ImageNet.
    assert len(results) == 5 * 14 + 5 + 9 + 10 + 14 + 4 * 2
    for result in results:
        assert all(metric.endswith('(reported)') for metric in result['Metrics'])
        assert result['Source'].startswith('https://')


def test_configs_are_what_the_command_writes(tmp_path):
    files = make_configs.all_files()
    assert make_configs.stale_files(files) == []
    path = next(iter(files))
    # A file that differs, and one that the tables don't know.
    for name, text in {**files, path: 'other', 'configs/cifar100/kd/more.py': ''}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert make_configs.stale_files(files, tmp_path) == sorted(
        [path, 'configs/cifar100/kd/more.py']
    )


def test_tables_are_up_to_date(zoo, results):
    for readme in {entry['README'] for entry in zoo[0]}:
        text = (REPOSITORY / readme).read_text()
        assert zoo_tables.fill(readme, text, *zoo, results) == text


def test_tables_show_what_the_metafiles_say(zoo, results):
    readme = 'configs/cifar100/README.md'
    text = (REPOSITORY / readme).read_text()
    models = copy.deepcopy(zoo[1])
    (model,) = [m for m in models if m['Name'] == 'kd_logits_resnet56_resnet20_1xb64_cifar100']
    model['Results'][0]['Metrics']['Top 1 Accuracy (reported)'] = 12.3
    row = (
        '| ResNet-56 | ResNet-20 | 72.34 | 69.06 |  | 12.30 | not run |  | [config](kd/kd_logits_'
    )
    assert row not in text
    assert row in zoo_tables.fill(readme, text, zoo[0], models, results)


def test_a_collection_without_a_table_is_an_error(zoo):
    readme = 'configs/cifar100/README.md'
    text = (REPOSITORY / readme).read_text().replace('<!-- zoo: KD, CIFAR-100 -->', '')
    with pytest.raises(ValueError, match='KD, CIFAR-100 is in the metafiles or in the README'):
        zoo_tables.fill(readme, text, *zoo, {})


def test_mmrazors_figures_are_those_of_the_metafiles_that_it_ships(zoo):
    """And those of DIST, of which the release has none, are those of a later commit."""
    root = Path(find_spec('mmrazor').origin).parent / '.mim'
    shipped = {
        model['Config']: model
        for path in root.glob('configs/distill/mmcls/*/metafile.yml')
        for model in yaml.safe_load(path.read_text())['Models']
    }
    ours = [m['Metadata'] for m in zoo[1] if 'Base Config' in m.get('Metadata', {})]
    assert len(ours) == 6
    top1 = 'Top 1 Accuracy'
    for about in ours:
        path = f'configs/{about["Base Config"].removeprefix("mmrazor::")}'
        assert (root / path).is_file()
        if '/dist/' in path:
            assert path not in shipped
            assert about[f'Base {top1} (reported)'] == 71.61
            assert '/552cbf0f7286eba89a5da2bcbd65ec240e45d6c8/' in about['Base Source']
            continue
        theirs = shipped[path]
        assert about[f'Base {top1} (reported)'] == theirs['Results'][0]['Metrics'][top1]
        for who in ('Teacher', 'Student'):
            metrics = theirs['Metadata'][who]['Metrics']
            assert about[f'{who} {top1} (reported)'] == metrics[top1]
        assert about['Base Weights'] == theirs['Weights']


def test_the_table_beside_mmrazors_configs_has_its_figures_and_weights():
    text = (REPOSITORY / 'configs/imagenet/README.md').read_text()
    table = text.partition("<!-- zoo: Beside mmrazor's configs -->")[2].partition('<!-- zoo end')[
        0
    ]
    for cells in (
        '| ResNet-34 | ResNet-18 | 73.62 | 69.90 |  | 71.81 |',
        '| ResNet-34 | ResNet-18 | 73.62 | 69.90 |  | 71.368 |',
        '| ResNet-34 | ResNet-18 | 73.62 | 69.90 |  | 71.61 |',
        '| ResNet-34 | ResNet-18 | 73.62 | 69.90 |  | 71.54 |',
        '| ResNet-50 | MobileNetV2 | 76.55 | 71.86 |  | 73.56 |',
        '| ResNet-50 | ShuffleNetV2 1x | 76.55 | 69.55 |  | 70.87 |',
    ):
        (row,) = [line for line in table.splitlines() if line.startswith(cells)]
        assert re.search(r'`mmrazor::\S+` \| \[weights\]\(https://download\.openmmlab\.com/', row)


def test_a_figure_without_a_file_is_refused(zoo, results):
    cifar = 'configs/cifar100/README.md'
    text = (REPOSITORY / cifar).read_text()
    assert '| not run |' in text
    invented = text.replace('| not run |', '| 99.90 |')
    assert zoo_tables.fill(cifar, invented, *zoo, results) == text
    text = (REPOSITORY / DIGITS).read_text()
    # As without its file: what is in the table comes from nowhere else.
    path = next(path for path in results if '/kd_logits_' in path)
    others = {name: result for name, result in results.items() if name != path}
    row = f'| not run |  | [config]({Path(results[path]["config"]).name}) |'
    assert row in zoo_tables.fill(DIGITS, text, *zoo, others)


def test_other_seeds_make_a_mean_and_changed_runs_do_not_count(zoo, results):
    path, result = next((p, r) for p, r in results.items() if '/kd_logits_' in p)
    more = copy.deepcopy(result)
    more['seed'], more['metrics']['accuracy/top1'] = 1, result['metrics']['accuracy/top1'] - 1
    changed = {**copy.deepcopy(result), 'changed': ['one thing']}
    changed['metrics']['accuracy/top1'] = 3.0
    several = {path: result, 'configs/digits/results/b.json': more,
               'configs/digits/results/c.json': changed}  # fmt: skip
    cells = zoo_tables.measured(result['config'], 'configs/digits', several)
    mean = result['metrics']['accuracy/top1'] - 0.5
    assert cells['here'] == f'{mean:.2f} ± 0.71 (2 runs)'
    assert cells['log'].endswith('[seed 1](results/b.json) [changed, seed 0](results/c.json)')


@pytest.mark.parametrize(
    ('harm', 'message'),
    [
        (dict(config='configs/digits/none.py'), "no config 'configs/digits/none.py' in the meta"),
        (dict(config='configs/cifar100/alone/resnet20_1xb64_cifar100.py'),
         'there is no config .* in the metafiles of configs/digits'),
        (dict(config='configs/digits/resnet18-w16_1xb64_digits.py'),
         'its content is that of a file called resnet18-w16_1xb64_digits_seed0_'),
        (dict(seed=5), 'its content is that of a file called .*_seed5_'),
        (dict(changed=['the learning rate']), 'a file called .*-changed_seed0_'),
        (dict(settings='0123456789ab'), 'were 0123456789ab when it was trained, and are '),
        (dict(metrics={'accuracy/top1': 99.9}), r'curve ends with .*, and its figure is .*99\.9'),
        (dict(end=3), r'its curve ends with \[12, .*and its figure is \[3, '),
    ],
)  # fmt: skip
def test_a_result_that_does_not_fit_is_refused(harm, message, zoo, results):
    name, result = next((p, r) for p, r in results.items() if '/kd_logits_' in p)
    known = experiments(zoo[1])
    assert result_fault(result, REPOSITORY / name, known, REPOSITORY) is None
    fault = result_fault({**result, **harm}, REPOSITORY / name, known, REPOSITORY)
    assert re.search(message, fault)


def test_the_command_refuses_such_a_file(tmp_path, monkeypatch, capsys, results):
    (tmp_path / 'model-index.yml').symlink_to(REPOSITORY / 'model-index.yml')
    (tmp_path / 'configs').mkdir()
    for folder in (REPOSITORY / 'configs').iterdir():
        (tmp_path / 'configs' / folder.name).symlink_to(folder)
    place = tmp_path / 'configs' / 'own_data'
    place.unlink()
    (place / 'results').mkdir(parents=True)
    name, result = next(iter(results.items()))
    (place / 'results' / Path(name).name).write_text(json.dumps(result))
    monkeypatch.setattr(zoo_tables, 'REPOSITORY', tmp_path)
    monkeypatch.setattr('sys.argv', ['zoo_tables.py', '--check'])
    assert zoo_tables.main() == 2
    error = capsys.readouterr().err
    assert error.startswith(f'zoo_tables.py: error: configs/own_data/results/{Path(name).name}: ')
    assert 'Import the run anew, or remove the file' in error

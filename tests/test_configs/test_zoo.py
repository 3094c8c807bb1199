"""The metafiles name every config, the READMEs and the written configs are up to date."""

from __future__ import annotations

import copy
import importlib.util
import sys

import pytest
import yaml

from ..conftest import REPOSITORY


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
    return zoo_tables.read_zoo()


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


def test_tables_are_up_to_date(zoo):
    for readme in {entry['README'] for entry in zoo[0]}:
        text = (REPOSITORY / readme).read_text()
        assert zoo_tables.fill(readme, text, *zoo) == text


def test_tables_show_what_the_metafiles_say(zoo):
    readme = 'configs/cifar100/README.md'
    text = (REPOSITORY / readme).read_text()
    models = copy.deepcopy(zoo[1])
    (model,) = [m for m in models if m['Name'] == 'kd_logits_resnet56_resnet20_1xb64_cifar100']
    model['Results'][0]['Metrics']['Top 1 Accuracy (reported)'] = 12.3
    row = '| ResNet-56 | ResNet-20 | 72.34 | 69.06 | 12.30 | [config](kd/kd_logits_resnet56_'
    assert row not in text
    assert row in zoo_tables.fill(readme, text, zoo[0], models)


def test_a_collection_without_a_table_is_an_error(zoo):
    readme = 'configs/cifar100/README.md'
    text = (REPOSITORY / readme).read_text().replace('<!-- zoo: KD, CIFAR-100 -->', '')
    with pytest.raises(ValueError, match='KD, CIFAR-100 is in the metafiles or in the README'):
        zoo_tables.fill(readme, text, *zoo)

"""The zoo: the experiments that the metafiles list, and the results of trainings of them.

A result is a small JSON file in ``configs/*/results``, written by ``import_run.py`` from the work
directory of a training, and by nothing else.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from mmkendall.engine.distill_config import ConfigError, load_config
from mmkendall.studies.finished_run import FinishedRun
from mmkendall.studies.settings import checkpoint_name, differences, fingerprint

# Images of an epoch, where nobody may train on fewer and keep the name of the data set.
TRAINING_IMAGES = {'CIFAR100': 50_000, 'ImageNet': 1_281_167, 'Digits': 1_297}
GPUS_AND_BATCH = re.compile(r'_(\d+)xb(\d+)')
SHOWN = 8  # Of the differences between two configs, in a message.


class Measure(NamedTuple):
    """What a table shows of a training.

    Attributes:
        key: of the validation.
        scale: what it is multiplied by for the table.
        title: for people.
    """

    key: str
    scale: float
    title: str


MEASURES = {
    'coco': Measure('coco/bbox_mAP', 100, 'box AP'),
    'cityscapes': Measure('mIoU', 1, 'mIoU'),
}
TOP1 = Measure('accuracy/top1', 1, 'top-1')


def measure_of(folder: str) -> Measure:
    """What is shown of the configs of a folder of ``configs``."""
    return MEASURES.get(folder, TOP1)


def read_zoo(root: Path) -> tuple[list[dict], list[dict]]:
    """The collections and the models of all metafiles.

    Args:
        root: where ``model-index.yml`` lies.
    """
    collections, models = [], []
    for path in yaml.safe_load((root / 'model-index.yml').read_text())['Import']:
        metafile = yaml.safe_load((root / path).read_text())
        collections += metafile.get('Collections', [])
        models += metafile.get('Models', [])
    return collections, models


def experiments(models: list[dict]) -> dict[str, str]:
    """Each config with its folder of ``configs``; also those of mmrazor that ours add to."""
    found = {}
    for model in models:
        folder = model['Config'].split('/')[1]
        if 'Base Config' in model.get('Metadata', {}):
            found[model['Metadata']['Base Config']] = folder
        found[model['Config']] = folder
    return found


def load_experiment(config: str, root: Path) -> dict[str, Any]:
    """A config of the zoo, by its path in the repository or by ``package::path``."""
    return load_config(config if '::' in config else str(root / config)).to_dict()


def find_config(run: FinishedRun, configs: list[str], root: Path) -> tuple[str, list[str]]:
    """The config that a run is of, and in what it differs from it.

    That is the config that the run is called after. Where there is none of that name, all are
    compared, and it is the one that is most like it.

    Args:
        run: a training.
        configs: to choose from.
        root: of the repository.

    Raises:
        ConfigError: several are the same.
    """
    named = [config for config in configs if Path(config).stem == run.name]
    found: dict[str, list[str]] = {}
    for config in named or configs:
        try:
            found[config] = run_differences(run, config, root)
        except ConfigError:  # It inherits from a package that is not installed.
            if named:
                raise
    best = min(found, key=lambda config: len(found[config]))
    same = [config for config, differ in found.items() if not differ]
    if len(same) > 1:
        raise ConfigError(f'the run is of each of {", ".join(same)}: say which by --config')
    return best, found[best]


def run_differences(run: FinishedRun, config: str, root: Path) -> list[str]:
    """In what a training is not one of a config: settings, GPUs, images of an epoch."""
    wanted = load_experiment(config, root)
    found: dict[str, None] = {}  # An ordered set: sessions may repeat each other.
    for session in run.sessions:
        found.update(dict.fromkeys(differences(wanted, session.config)))
    matched = GPUS_AND_BATCH.search(Path(config).stem)
    for gpus in dict.fromkeys(run.gpus):
        if matched and gpus != int(matched[1]):
            found[f'the number of GPUs is {gpus} in place of {matched[1]}'] = None
    kind, images = training_images(wanted)
    if images is not None and run.by_epoch:
        batch = run.config['train_dataloader']['batch_size'] * run.gpus[-1]
        an_epoch = run.iterations / run.length
        if not images // batch <= an_epoch <= -(-images // batch):
            found[
                f'an epoch has {an_epoch:g} iterations of {batch} images, and the {images} of '
                f'{kind} would take {-(-images // batch)}'
            ] = None
    return list(found)


def training_images(config: dict[str, Any]) -> tuple[str, int | None]:
    """The data set of a config, and how many images it has, if that is known."""
    dataset = config['train_dataloader']['dataset']
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    kind = str(dataset.get('type', '')).rpartition('.')[2]
    return kind, TRAINING_IMAGES.get(kind)


def sentence(differ: list[str]) -> str:
    """Differences in words, the first of them where they are many."""
    more = f' and {len(differ) - SHOWN} more' if len(differ) > SHOWN else ''
    return '; '.join(differ[:SHOWN]) + more


def make_result(run: FinishedRun, config: str, changed: list[str], root: Path) -> dict[str, Any]:
    """What a result file holds.

    Args:
        run: a training.
        config: that it is of.
        changed: in what it differs from that.
        root: of the repository.

    Raises:
        ConfigError: the validations lack what the tables show.
    """
    measure = measure_of(experiments(read_zoo(root)[1])[config])
    lacking = [step for step, metrics in run.curve.items() if measure.key not in metrics]
    if lacking:
        raise ConfigError(
            f'the validation of step {lacking[0]} has no {measure.key}, which the tables show: it '
            f'has {", ".join(run.curve[lacking[0]])}'
        )
    teacher = (run.config.get('model') or {}).get('teacher_ckpt')
    return {
        'config': config,
        'settings': fingerprint(load_experiment(config, root)),
        'changed': changed,
        'unit': 'epoch' if run.by_epoch else 'iteration',
        'end': run.length,
        'metrics': run.curve[run.length],
        'curve': [[step, metrics[measure.key]] for step, metrics in sorted(run.curve.items())],
        'teacher': checkpoint_name(teacher) if isinstance(teacher, str) else teacher,
        'seed': run.seed,
        'gpus': run.gpus[-1],
        'batch_size': run.config['train_dataloader']['batch_size'],
        'seconds': run.seconds,
        'sessions': [session.name for session in run.sessions],
        'versions': run.versions(),
        'checkpoint': {'name': run.checkpoint.name, 'sha256': run.sha256()},
    }


def result_name(result: dict[str, Any]) -> str:
    """The name of a result file."""
    stem = Path(result['config'].rpartition('::')[2]).stem
    changed = '-changed' if result['changed'] else ''
    return f'{stem}{changed}_seed{result["seed"]}_{result["sessions"][0]}.json'


def read_results(root: Path, models: list[dict]) -> dict[str, dict[str, Any]]:
    """All result files by their path in the repository.

    Args:
        root: of the repository.
        models: of the zoo.

    Raises:
        ConfigError: one is not what ``import_run.py`` writes, or its config is another one now.
    """
    known = experiments(models)
    results = {}
    for path in sorted(root.glob('configs/*/results/*')):
        name = path.relative_to(root).as_posix()
        result = json.loads(path.read_text())
        fault = result_fault(result, path, known, root)
        if fault is not None:
            raise ConfigError(f'{name}: {fault}. Import the run anew, or remove the file')
        results[name] = result
    return results


def result_fault(
    result: dict[str, Any], path: Path, known: dict[str, str], root: Path
) -> str | None:
    """Why a result file must not be shown, or None if it may."""
    config, folder = result['config'], path.parents[1].name
    if known.get(config) != folder:
        return f'there is no config {config!r} in the metafiles of configs/{folder}'
    if path.name != result_name(result):
        return f'its content is that of a file called {result_name(result)}'
    now = fingerprint(load_experiment(config, root))
    if result['settings'] != now:
        return (
            f'the settings of {config} were {result["settings"]} when it was trained, and are '
            f'{now} now'
        )
    end = [result['end'], result['metrics'].get(measure_of(folder).key)]
    if result['curve'][-1] != end:
        return f'its curve ends with {result["curve"][-1]}, and its figure is {end}'
    return None

"""Carries out one task of a study, in a process of its own.

A task is a folder: ``task.json`` says what to do, ``config.py`` with what. What came out is in
``result.json``, which is written last and whole: a folder that has it is done. A lock on the
folder keeps a second process waiting, so that a task that still runs after its study was killed is
not run twice.

    python -m mmkendall.studies.worker FOLDER

Importing it imports all that a task may need, so that processes that are forked from one that did
start at once.
"""

from __future__ import annotations

from mmkendall import compat

compat.apply()

import gc  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import platform  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from contextlib import contextmanager, suppress  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import mmengine  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.device import get_device  # noqa: E402
from mmengine.dist import is_main_process  # noqa: E402
from mmengine.hooks import Hook  # noqa: E402
from mmengine.model import is_model_wrapper  # noqa: E402
from mmengine.runner import Runner, TestLoop  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from mmkendall import __version__  # noqa: E402
from mmkendall.engine.checks.config import check_distill_config  # noqa: E402
from mmkendall.engine.checks.run import build_runner, train  # noqa: E402
from mmkendall.engine.hooks import NonFiniteError  # noqa: E402
from mmkendall.engine.protected_run import add_guards, choose_checkpoint  # noqa: E402
from mmkendall.evaluation import KeepPredictions  # noqa: E402
from mmkendall.evaluation.measures import (  # noqa: E402
    Predictions,
    by_group,
    likeness,
    measure,
)
from mmkendall.models.algorithms.teacher_logits import TeacherLogitsWriter  # noqa: E402
from mmkendall.studies.teachers import (  # noqa: E402
    HEADS,
    apply_changes,
    ensemble,
    out_of_fold,
    steps_of,
)
from mmkendall.whole_files import write_atomically  # noqa: E402

try:
    import fcntl
except ImportError:  # Windows: two studies of one folder are on their own there.
    fcntl = None

with suppress(ImportError):  # A study may do without either.
    import mmpretrain.utils

    mmpretrain.utils.register_all_modules(init_default_scope=False)
with suppress(ImportError):
    import mmrazor.utils

    mmrazor.utils.register_all_modules(init_default_scope=False)
with suppress(ImportError):
    import numba  # noqa: F401
# mmengine's datasets collect garbage, which takes long with all these modules.
gc.collect()
gc.freeze()

# Every so many iterations the length of the step is measured, first at the fourth.
STEP_INTERVAL, STEP_OFFSET = 20, 3


def carry_out(folder: str) -> None:
    """Carries out the task of a folder, unless that is done.

    Args:
        folder: of the task.

    Raises:
        Exception: whatever ends it.
    """
    place = Path(folder)
    with held(place):
        if (place / 'result.json').exists():
            return
        task = json.loads((place / 'task.json').read_text())
        processes = task.get('processes', 1)
        if processes > 1 and 'RANK' not in os.environ:
            launch(place, processes)
            return
        began = time.time()
        cfg = read_config(place)
        cfg.work_dir = folder
        cfg.launcher = 'pytorch' if processes > 1 else 'none'
        kinds = {'network': train_and_measure, 'student': train_and_measure, 'lesson': teach}
        result = kinds[task['kind']](cfg, task, place)
        if is_main_process():
            whole = {**task['about'], **result, **environment(), 'seconds': time.time() - began}
            write_atomically(str(place / 'result.json'), json.dumps(whole, indent=1).encode())


def read_config(folder: Path) -> Config:
    """The config of a task. Its text is not made pretty, which takes longer than a short run."""
    path = folder / 'config.py'
    content = Config.fromfile(path).to_dict()
    return Config(content, filename=str(path), format_python_code=False)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Waits until no other process works in a folder, and keeps the others waiting."""
    if fcntl is None or 'RANK' in os.environ:  # The process that launched these holds it.
        yield
        return
    with open(folder / 'lock', 'a') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def launch(folder: Path, processes: int) -> None:
    """Carries out a task in several processes under torchrun."""
    command = [
        sys.executable, '-m', 'torch.distributed.run', '--standalone',
        f'--nproc_per_node={processes}', '-m', 'mmkendall.studies.worker', str(folder),
    ]  # fmt: skip
    subprocess.run(command, check=True)


def environment() -> dict[str, Any]:
    """What a figure depends on beside the task."""
    return {
        'mmkendall': __version__,
        'torch': torch.__version__,
        'mmengine': mmengine.__version__,
        'python': platform.python_version(),
        'device': torch.cuda.get_device_name() if get_device() == 'cuda' else get_device(),
        'processor': processor(),
    }


def processor() -> str:
    """The name of the CPU, as far as the system tells it."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.machine()


class LikeTeacher(KeepPredictions):
    """How alike a classifier and its teacher are: ``likeness`` of the measures.

    Args:
        teacher: the teacher's scores (N, C) of the same samples.
    """

    default_prefix = 'teacher'

    def __init__(self, teacher: np.ndarray) -> None:
        super().__init__()
        self.teacher = teacher

    def compute_metrics(self, results: list) -> dict[str, float]:
        super().compute_metrics(results)
        return likeness(self.predictions.scores, self.teacher)


class KeepRecord(Hook):
    """Keeps the curve of the validations, the time of the iterations and the length of steps.

    It is kept in mmengine's message hub, hence in checkpoints: a resumed training has all of it.
    The length of a step is that of the change of all weights, measured now and then.

    Args:
        teacher: the teacher's scores of the validation set, for the curve. Defaults to None.
    """

    priority = 'VERY_LOW'

    def __init__(self, teacher: np.ndarray | None = None) -> None:
        self.teacher = teacher

    def before_train(self, runner: Runner) -> None:
        self.record = runner.message_hub.runtime_info.get('study_record') or {
            'curve': [], 'train_seconds': 0.0, 'iterations': 0, 'steps': [],
        }  # fmt: skip
        runner.message_hub.update_info('study_record', self.record)
        if self.teacher is not None and runner.val_loop is not None:
            like = LikeTeacher(self.teacher)
            like.watch(head_of(runner))
            runner.val_loop.evaluator.metrics.append(like)

    def before_train_epoch(self, runner: Runner) -> None:
        self.began = time.perf_counter()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self.before = None
        if runner.iter % STEP_INTERVAL == STEP_OFFSET:
            self.before = [each.detach().clone() for each in trained(runner)]

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        self.record['iterations'] += 1
        if self.before is not None:
            changes = [
                torch.linalg.vector_norm(now.detach() - was)
                for now, was in zip(trained(runner), self.before, strict=True)
            ]
            self.record['steps'].append(torch.stack(changes).norm().item())

    def after_train_epoch(self, runner: Runner) -> None:
        self.record['train_seconds'] += time.perf_counter() - self.began

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        plain = {name: float(value) for name, value in (metrics or {}).items()}
        self.record['curve'].append({'epoch': runner.epoch, **plain})


def trained(runner: Runner) -> list[torch.Tensor]:
    """The student's parameters."""
    return list(student_of(runner.model).parameters())


def student_of(model: torch.nn.Module) -> torch.nn.Module:
    """The student in a distillation; a classifier itself."""
    model = model.module if is_model_wrapper(model) else model
    return getattr(model, 'architecture', model)


def train_and_measure(cfg: Config, task: dict, folder: Path) -> dict[str, Any]:
    """Trains a network or loads the one that is given, and measures it.

    A training whose loss or weights are no longer finite is a result too: ``diverged``.
    """
    check_distill_config(cfg)
    add_guards(cfg)
    given = task.get('checkpoint')
    if given is not None:
        cfg.load_from, cfg.resume = given, False
    elif (folder / 'last_checkpoint').exists():
        choose_checkpoint(cfg, 'auto')
    runner = build_runner(cfg, complete=True if given is not None else None)
    lesson = task.get('lessons', {}).get('val')
    hook = KeepRecord(np.load(lesson)['scores'] if lesson else None)
    runner.register_hook(hook)
    try:
        if given is None:
            train(runner)
        else:
            load_weights(runner)
        validation, test = (predictions_of(runner, cfg[f'{split}_dataloader'])
                            for split in ('val', 'test'))  # fmt: skip
    except NonFiniteError as error:
        return {'diverged': str(error)}
    if not is_main_process():
        return {}
    record = getattr(hook, 'record', {'curve': []})
    steps = record.pop('steps', [])
    result: dict[str, Any] = {
        'epochs': 0 if given is not None else runner.max_epochs,
        **record,
        'step_length': float(np.mean(steps)) if steps else None,
        'parameters': sum(each.numel() for each in trained(runner)),
    }
    if given is not None:
        result['checkpoint'] = given
    elif task['kind'] == 'network':
        result['checkpoint'] = str(folder / (folder / 'last_checkpoint').read_text().strip())
    if not (np.isfinite(validation.scores).any(axis=1).all()
            and np.isfinite(test.scores).any(axis=1).all()):  # fmt: skip
        return {**result, 'diverged': 'the predictions are not finite'}
    return {**result, **measured(validation, test, task, runner)}


def predictions_of(runner: Runner, dataloader: dict) -> Predictions | None:
    """What the model says of a dataset, with the weights that a test would use."""
    keep = KeepPredictions()
    with keep.watch(head_of(runner)):
        TestLoop(runner, dataloader, [keep]).run()
    return keep.predictions


def head_of(runner: Runner) -> torch.nn.Module:
    """The student's head, or of a model that has none so called, the student."""
    student = student_of(runner.model)
    return getattr(student, 'head', student)


def measured(
    validation: Predictions, test: Predictions, task: dict, runner: Runner
) -> dict[str, Any]:
    """The measures of both sets, and the right ones of each group of the test."""
    dataset = runner.train_dataloader.dataset
    superclasses = dataset.metainfo.get('superclasses')
    if superclasses is not None:
        superclasses = np.unique(superclasses, return_inverse=True)[1]
    left_out = np.array(getattr(dataset, 'left_out_classes', ()))
    scores = {}
    for split, lesson in (task.get('lessons') or {}).items():
        scores[split] = np.load(lesson)['scores']
    result: dict[str, Any] = {
        'val': measure(validation, None, scores.get('val'), superclasses, left_out),
        'test': measure(test, validation, scores.get('test'), superclasses, left_out),
    }
    if test.groups is not None:
        result['test_groups'] = by_group(test)
    if task.get('probe'):
        result['test']['probe'] = probe_accuracy(runner, task['probe'])
    return result


def probe_accuracy(runner: Runner, datasets: dict[str, dict]) -> float:
    """Percent of the test samples that a linear classifier on the student's features gets right.

    Args:
        runner: of the student.
        datasets: the configs of ``train``, on which it is fitted, and ``test``.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    said = {}
    for name, dataset in datasets.items():
        config = {**runner.cfg.test_dataloader, 'dataset': dataset}
        loader = Runner.build_dataloader(config, seed=0)
        rows = len(loader.dataset)
        features = features_of(runner.model, loader.dataset, rows, loader.collate_fn)
        labels = [int(loader.dataset.get_data_info(row)['gt_label']) for row in range(rows)]
        said[name] = features, np.array(labels)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    classifier.fit(*said['train'])
    return 100 * float(classifier.score(*said['test']))


def teach(cfg: Config, task: dict, folder: Path) -> dict[str, Any]:
    """Writes what a teacher says of the validation, the test and, if asked, each training image.

    The arrays are ``val.npz`` and ``test.npz``; the teacher logits are in ``cache``.
    """
    sources = task['sources']
    if task['by'] is None:
        said, classes = network_lesson(cfg, task, folder)
    else:
        said, classes = made_lesson(cfg, task, folder)
    for split, array in said.items():
        np.savez(folder / f'{split}.npz', **array)
    return {
        'cached': task['cached'],
        'classes': classes,
        'sources': sources,
        **{f'{split}_top1': _top1(array) for split, array in said.items()},
    }


def _top1(array: dict[str, np.ndarray]) -> float:
    return 100 * float((array['scores'].argmax(axis=1) == array['labels']).mean())


def load_teacher(cfg: Config, task: dict, folder: Path) -> Runner:
    """A runner of the teacher's network with its weights, on the data of the student's config."""
    teacher = read_config(Path(task['network']))
    for name in ('val_dataloader', 'test_dataloader'):
        teacher[name] = cfg[name]
    teacher.work_dir = str(folder / 'teacher')
    teacher.load_from, teacher.resume = task['checkpoint'], False
    runner = build_runner(teacher, complete=True)
    load_weights(runner)
    return runner


def load_weights(runner: Runner) -> None:
    """Loads what ``load_from`` names, as a test does before it begins."""
    runner.call_hook('before_run')
    runner.load_or_resume()


def network_lesson(
    cfg: Config, task: dict, folder: Path
) -> tuple[dict[str, dict[str, np.ndarray]], int]:
    """Scores of the network itself; the tool of the teacher logits writes those of the images."""
    runner = load_teacher(cfg, task, folder)
    said = {
        split: _arrays(predictions_of(runner, cfg[f'{split}_dataloader']))
        for split in ('val', 'test')
    }
    if task['cached']:
        path = folder / 'cached.py'
        cfg.model.teacher_logits = str(folder / 'cache')
        cfg.dump(path)
        command = [sys.executable, '-m', 'mmkendall', 'dataset_converters/cache_teacher_logits']
        status = subprocess.run([*command, str(path)], check=False).returncode
        if status:  # It has said why in one sentence.
            sys.exit(status)
    return said, said['val']['scores'].shape[1]


def _arrays(predictions: Predictions) -> dict[str, np.ndarray]:
    return {'scores': predictions.scores, 'labels': predictions.labels}


def made_lesson(
    cfg: Config, task: dict, folder: Path
) -> tuple[dict[str, dict[str, np.ndarray]], int]:
    """Scores that are made of other teachers' scores or features."""
    first, *steps = steps_of(task['by'])
    sources = [Path(source) for source in task['sources']]
    options = {name: value for name, value in first.items() if name != 'type'}
    labels = {split: np.load(sources[0] / f'{split}.npz')['labels'] for split in ('val', 'test')}
    if first['type'] in HEADS:
        said = head_scores(cfg, task, folder, first['type'], options, labels)
    else:
        members = [
            {
                **{split: np.load(source / f'{split}.npz')['scores'] for split in labels},
                'train': np.load(source / 'cache' / 'logits.npy')[:, 0].astype(np.float32),
            }
            for source in sources
        ]
        if first['type'] == 'ensemble':
            said = {
                split: ensemble([each[split] for each in members], **options)
                for split in members[0]
            }
        else:
            if len(members) != 1:
                raise ValueError(f'{first["type"]!r} changes one teacher, got {len(members)}')
            said, steps = members[0], [first, *steps]
    for place, split in enumerate(('train', 'val', 'test')):
        said[split] = apply_changes(said[split], steps, [task['seed'], place])
    write_cache(folder / 'cache', sources[0] / 'cache', said['train'], task)
    arrays = {split: {'scores': said[split], 'labels': labels[split]} for split in labels}
    return arrays, said['val'].shape[1]


def write_cache(folder: Path, like: Path, rows: np.ndarray, task: dict) -> None:
    """Teacher logits of the same images as others, as of a table of scores."""
    meta = json.loads((like / 'meta.json').read_text())['made_of']
    made_of = {
        **meta,
        'dtype': 'float32',
        'classes': rows.shape[1],
        'teachers': {
            'weights': [task['about']['fingerprint']],
            'table': {'file': task['about']['teacher']},
        },
        'teacher_classes': [None],
    }
    writer = TeacherLogitsWriter(folder, made_of)
    try:
        begin = writer.rows_done
        crcs = np.load(like / 'crc.npy')[begin:]
        writer.append(torch.from_numpy(rows[begin:, None]), crcs)
        writer.flush()
    finally:
        writer.close()


def head_scores(
    cfg: Config, task: dict, folder: Path, kind: str, options: dict, labels: dict
) -> dict[str, np.ndarray]:
    """Scores of a head on a network's features, of each training image out of its fold."""
    runner = load_teacher(cfg, task, folder)
    model = runner.model
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    dataset = loader.dataset.all_rows()
    features = features_of(model, dataset, dataset.num_rows, loader.collate_fn)
    infos = [dataset.get_data_info(row) for row in range(dataset.num_rows)]
    truth = np.array([int(info['gt_label']) for info in infos])
    groups = np.array([info.get('group', row % len(dataset)) for row, info in enumerate(infos)])
    classes = len(dataset.metainfo['classes'])

    def head(*fitted_on: Any) -> Any:
        return HEADS[kind](*fitted_on, **options)

    said = {}
    said['train'], whole = out_of_fold(head, features, truth, groups, classes)
    for split in labels:
        loader = Runner.build_dataloader(cfg[f'{split}_dataloader'], seed=0)
        samples = len(loader.dataset)
        said[split] = whole(features_of(model, loader.dataset, samples, loader.collate_fn))
    return said


@torch.no_grad()
def features_of(
    model: torch.nn.Module, dataset: Any, rows: int, collate_fn: Callable
) -> np.ndarray:
    """(rows, F): what the classifier's neck gives of the first rows of a dataset."""
    model.eval()
    loader = DataLoader(dataset, batch_size=256, sampler=range(rows), collate_fn=collate_fn)
    found = []
    for batch in loader:
        inputs = model.data_preprocessor(batch, False)['inputs']
        features = model.extract_feat(inputs, stage='neck')
        last = features[-1] if isinstance(features, (tuple, list)) else features
        found.append(last.flatten(1).float().cpu().numpy())
    return np.concatenate(found)


if __name__ == '__main__':
    carry_out(sys.argv[1])

"""Which trainings a study takes, and where each is kept.

A task's folder is named by a fingerprint of all that its result depends on, so a study that is
changed keeps what is still true of it, and two studies share what they have in common.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmkendall import __version__
from mmkendall.engine.distill_config import load_config
from mmkendall.studies.data import DataCheck, data_checksums
from mmkendall.studies.study import Arm, Case, Study, StudyError, Teacher, changed
from mmkendall.studies.teachers import HEADS, steps_of
from mmkendall.studies.terms import change_of, path_of
from mmkendall.whole_files import write_atomically

# Measures of which less is better.
LESS_IS_BETTER = ('nll', 'ece', 'nll_scaled', 'ece_scaled')
# What a config says of where things lie on this machine, and not of what comes out.
PLACES = ('work_dir', 'load_from', 'resume', 'launcher')


@dataclass
class Task:
    """One piece of work: a network, a lesson or a student.

    Args:
        kind: ``'network'``, ``'lesson'`` or ``'student'``.
        folder: where it is kept.
        about: what the result says of itself.
        config: gives the config once all that it needs is done.
        details: gives the rest of ``task.json``, likewise.
        needs: tasks that must be done before.
    """

    kind: str
    folder: Path
    about: dict[str, Any]
    config: Callable[[], Config]
    details: Callable[[], dict[str, Any]]
    needs: list[Task] = field(default_factory=list)
    _result: dict[str, Any] | None = None

    @property
    def fingerprint(self) -> str:
        return self.about['fingerprint']

    @property
    def title(self) -> str:
        names = ('network', 'teacher', 'arm', 'case', 'seed')
        return ', '.join(f'{self.about[name]}' for name in names if name in self.about)

    def result(self) -> dict[str, Any] | None:
        """What came out, None if it is not done."""
        if self._result is None:
            file = self.folder / 'result.json'
            self._result = json.loads(file.read_text()) if file.exists() else None
        return self._result

    def write(self) -> None:
        """Writes what a worker reads."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # Made pretty, its text would take longer than a short run.
        Config(self.config().to_dict(), format_python_code=False).dump(self.folder / 'config.py')
        task = {'kind': self.kind, 'about': self.about, **self.details()}
        write_atomically(str(self.folder / 'task.json'), json.dumps(task, indent=1).encode())

    def all_tasks(self) -> list[Task]:
        """It and all that it needs, each once, needs first."""
        found: dict[Path, Task] = {}
        for need in self.needs:
            for each in need.all_tasks():
                found.setdefault(each.folder, each)
        found[self.folder] = self
        return list(found.values())


@dataclass
class Training:
    """A student of a study: the task, and its place in the comparison."""

    arm: str
    case: str
    seed: int
    point: dict[str, Any]
    phase: str
    task: Task

    def measure(self, split: str, name: str) -> float:
        """One measure of its result; NaN where it diverged or has none such."""
        result = self.task.result() or {}
        value = result.get(split, {}).get(name)
        return math.nan if value is None else float(value)


class Plan:
    """The trainings of a study.

    Args:
        study: what is asked.
        root: where tasks are kept, those of all studies.
        commit: of the code, for the results.
    """

    def __init__(self, study: Study, root: Path, commit: str = '') -> None:
        self.study = study
        self.root = root
        self.commit = commit
        self._networks: dict[str, Task] = {}
        self._lessons: dict[str, Task] = {}
        self._sha: dict[str, str] = {}
        self._bases: dict[str, Config] = {}
        self._configs: dict[str, Config] = {}
        self._check_data = DataCheck()

    # Teachers.

    def network(self, teacher: Teacher) -> Task:
        """The training of a teacher's network."""
        if teacher.name not in self._networks:
            what = f'teachers[{teacher.name!r}]'
            cfg = self._config(teacher.config, teacher.change, what)
            self._check_data(cfg, what)
            cfg.merge_from_dict({'randomness': dict(seed=teacher.seed)})
            given = self._file_checksum(teacher.checkpoint) if teacher.checkpoint else None
            mark = fingerprint(cfg, given)
            details = {'checkpoint': teacher.checkpoint}
            if teacher.checkpoint is None:
                details['processes'] = self.study.processes
            self._networks[teacher.name] = Task(
                'network',
                self.root / 'networks' / mark,
                self._about(mark, network=teacher.name, seed=teacher.seed),
                lambda: cfg,
                lambda: details,
            )
        return self._networks[teacher.name]

    def _file_checksum(self, path: str) -> str:
        if path not in self._sha:
            try:
                with open(path, 'rb') as file:
                    self._sha[path] = hashlib.sha256(file.read()).hexdigest()
            except OSError as error:
                raise StudyError(
                    f'checkpoint {path!r} of a teacher cannot be read: {error.strerror}'
                ) from error
        return self._sha[path]

    def root_network(self, teacher: Teacher) -> Teacher:
        """The first network that a teacher is made of."""
        while teacher.of:
            teacher = self.study.teachers[teacher.of[0]]
        return teacher

    def lesson(self, teacher: Teacher, cfg: Config, cached: bool) -> Task:
        """What a teacher says of the data of a student's config.

        Args:
            teacher: of the study.
            cfg: the student's config.
            cached: whether the training images are asked for too.
        """
        sources = [self.lesson(self.study.teachers[name], cfg, cached) for name in teacher.of]
        network = self.network(self.root_network(teacher))
        try:
            steps = steps_of(teacher.by) if teacher.by is not None else None
        except ValueError as error:
            raise StudyError(f'teachers[{teacher.name!r}].by: {error}') from error
        if steps is not None and not cached:
            raise StudyError(
                f'teachers[{teacher.name!r}] is made of {", ".join(teacher.of)}, so its scores '
                'come from disk: no config of this case reads teacher_logits on the same data'
            )
        loaders = {name: cfg[name].dataset for name in ('val_dataloader', 'test_dataloader')}
        if cached:
            loaders['train_dataloader'] = cfg.train_dataloader.dataset
        made = [network.fingerprint, steps, *(source.fingerprint for source in sources)]
        mark = fingerprint(Config(loaders), [made, teacher.seed if steps else None, cached])
        if mark in self._lessons:
            return self._lessons[mark]
        root = self.root_network(teacher)
        if steps is not None and steps[0]['type'] in HEADS and self.study.teachers[
            teacher.of[0]
        ].of:  # fmt: skip
            raise StudyError(
                f'teachers[{teacher.name!r}]: {steps[0]["type"]!r} is fitted on the features of a '
                f'network, and {teacher.of[0]!r} is made of another teacher'
            )

        def config() -> Config:
            taught = deepcopy(cfg)
            if steps is None and cached:
                self._seat_network(taught, root)
            return taught

        def details() -> dict[str, Any]:
            return {
                'by': steps,
                'seed': teacher.seed,
                'cached': cached,
                'sources': [str(source.folder) for source in sources],
                'network': str(network.folder),
                'checkpoint': _checkpoint(network),
            }

        self._lessons[mark] = Task(
            'lesson',
            self.root / 'lessons' / mark,
            self._about(mark, teacher=teacher.name),
            config,
            details,
            [network, *sources],
        )
        return self._lessons[mark]

    def _seat_network(self, cfg: Config, teacher: Teacher) -> None:
        """Puts a teacher's network with its weights into a distillation's config."""
        network = self.network(teacher)
        theirs = network.config()
        model = Config(dict(model=theirs.model)).to_dict()['model']
        if 'data_preprocessor' not in model and theirs.get('data_preprocessor') is not None:
            model['data_preprocessor'] = None
        cfg.model.teacher = {name: each for name, each in model.items() if each is not None}
        cfg.model.teacher_ckpt = _checkpoint(network)

    # Students.

    @cached_property
    def cached_data(self) -> dict[tuple[str, str], Config]:
        """By case and its validation and test data, a config that reads teacher logits."""
        found: dict[tuple[str, str], Config] = {}
        for case in self.study.cases.values():
            for arm in self.study.arms_of(case):
                cfg = self._student_config(case, arm, {})
                if _reads_logits(cfg):
                    found.setdefault((case.name, _tests(cfg)), cfg)
        return found

    def training(
        self,
        case: Case,
        arm: Arm,
        point: Mapping[str, Any],
        seed: int,
        phase: str,
        change: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> Training:
        """One student.

        Args:
            case: its conditions.
            arm: how it is trained.
            point: of the arm's grid.
            seed: of its weights, order and augmentation.
            phase: ``'tune'``, ``'final'`` or ``'control'``.
            change: further changes of its config, of a control.
            name: of the control.
        """
        cfg = self._student_config(case, arm, point)
        if change:
            changed(cfg, change, f'control {name!r}')
        cfg.merge_from_dict({'randomness': dict(seed=seed)})
        lesson = self._lesson_of(case, cfg)
        mark = fingerprint(cfg, [lesson.fingerprint if lesson else None, self.study.probe])
        arm_name = name or arm.name
        teacher = self._teacher(case)

        def config() -> Config:
            taught = deepcopy(cfg)
            if lesson is None or taught.model.get('distiller') is None:
                return taught
            if _reads_logits(taught):
                taught.model.teacher_logits = str(lesson.folder / 'cache')
            if teacher.of:
                taught.model.teacher = taught.model.teacher_ckpt = None
            else:
                self._seat_network(taught, teacher)
            return taught

        def details() -> dict[str, Any]:
            splits = ('val', 'test') if lesson else ()
            return {
                'processes': self.study.processes,
                'probe': self.study.probe,
                'lessons': {split: str(lesson.folder / f'{split}.npz') for split in splits},
            }

        task = Task(
            'student',
            self.root / 'students' / mark,
            self._about(
                mark,
                arm=arm_name,
                case=case.name,
                seed=seed,
                teacher=teacher.name if teacher else None,
            ),
            config,
            details,
            [lesson] if lesson else [],
        )
        return Training(arm_name, case.name, seed, dict(point), phase, task)

    def _teacher(self, case: Case) -> Teacher | None:
        if not self.study.teachers:
            return None
        return self.study.teachers[case.teacher or next(iter(self.study.teachers))]

    def _lesson_of(self, case: Case, cfg: Config) -> Task | None:
        """What the case's teacher says of the data of a student, if it can be had."""
        teacher = self._teacher(case)
        distills = cfg.model.get('distiller') is not None
        if teacher is None:
            if distills:
                raise StudyError('an arm distils, and study.teachers names no teacher')
            return None
        if _reads_logits(cfg):
            return self.lesson(teacher, cfg, cached=True)
        if distills and teacher.of:
            raise StudyError(
                f'case {case.name!r}: its teacher {teacher.name!r} is made of others, so its '
                "scores come from disk: the model must be a 'mmkendall.LogitDistill' with "
                'teacher_logits, on a mmkendall.FixedViews'
            )
        other = self.cached_data.get((case.name, _tests(cfg)))
        if other is not None and not distills:
            return self.lesson(teacher, other, cached=True)
        return None if teacher.of else self.lesson(teacher, cfg, cached=False)

    def _student_config(self, case: Case, arm: Arm, point: Mapping[str, Any]) -> Config:
        key = json.dumps([case.name, arm.name, point], default=repr)
        if key in self._configs:
            return deepcopy(self._configs[key])
        cfg = self._config(arm.config, {}, f'arms[{arm.name!r}]')
        changed(cfg, self.study.change, 'study.change')
        changed(cfg, case.change, f'cases[{case.name!r}].change')
        changed(cfg, arm.change, f'arms[{arm.name!r}].change')
        if arm.terms:
            try:
                terms = change_of(arm.terms)
            except (KeyError, TypeError, ValueError) as error:
                told = error.args[0] if error.args else type(error).__name__
                raise StudyError(f'arms[{arm.name!r}].terms: {told}') from error
            changed(cfg, terms, f'arms[{arm.name!r}].terms')
        paths = {
            path_of(name, arm.terms) or self.study.names.get(name, name): value
            for name, value in point.items()
        }
        changed(cfg, paths, f'arms[{arm.name!r}].grid')
        self._check_data(cfg, f'arms[{arm.name!r}] in case {case.name!r}')
        self._configs[key] = cfg
        return deepcopy(cfg)

    def _config(self, path: str, change: Mapping[str, Any], what: str) -> Config:
        if path not in self._bases:
            self._bases[path] = load_config(path)
        cfg = deepcopy(self._bases[path])
        for name in ('val_dataloader', 'test_dataloader'):
            if cfg.get(name) is None:
                raise StudyError(f'{what}: {path} has no {name}, on which it would be measured')
        changed(cfg, change, what)
        return cfg

    def _about(self, mark: str, **names: Any) -> dict[str, Any]:
        return {'fingerprint': mark, 'commit': self.commit, **names}

    # Phases.

    def tuning(self) -> list[Training]:
        """The trainings that choose among the points of every arm's grid."""
        return [
            self.training(case, arm, point, seed, 'tune')
            for case in self.study.cases.values()
            for arm in self.study.arms_of(case)
            if len(arm.points()) > 1
            for point in arm.points()
            for seed in self.study.tune_seeds
        ]

    def chosen(self, case: Case, arm: Arm, tuning: Sequence[Training]) -> dict[str, Any]:
        """The point of an arm's grid that is best on the validation set.

        Raises:
            StudyError: all of them diverged.
        """
        points = arm.points()
        if len(points) == 1:
            return points[0]
        sign = -1 if self.study.select in LESS_IS_BETTER else 1

        def value(point: dict[str, Any]) -> float:
            values = [
                sign * each.measure('val', self.study.select)
                for each in tuning
                if (each.arm, each.case, each.point) == (arm.name, case.name, point)
            ]
            mean = sum(values) / len(values)
            return -math.inf if math.isnan(mean) else mean

        best = max(points, key=value)
        if value(best) == -math.inf:
            raise StudyError(
                f'arm {arm.name!r} diverged at every point of its grid in case {case.name!r}'
            )
        return best

    def finals(self, tuning: Sequence[Training] | None) -> list[Training]:
        """The trainings that are compared, each arm at its chosen point.

        Before the settings are chosen, without ``tuning``, the first point stands for that.
        """
        return [
            self.training(case, arm, point, seed, 'final')
            for case in self.study.cases.values()
            for arm in self.study.arms_of(case)
            for point in [arm.points()[0] if tuning is None else self.chosen(case, arm, tuning)]
            for seed in self.study.seeds
        ]

    def controls(self, finals: Sequence[Training]) -> list[Training]:
        """What an arm would have to beat if its term only made the steps longer."""
        if not self.study.controls:
            return []
        found: dict[tuple[str, str, int], Training] = {}
        for case in self.study.cases.values():
            for arm in self.study.arms_of(case):
                if arm.beside is None:
                    continue
                base = self.study.arms[arm.beside]
                if base not in self.study.arms_of(case):
                    continue
                point = _of(finals, base.name, case.name)[0].point
                cfg = self._student_config(case, base, point)
                for name, change in self._control_changes(cfg, arm, base, case, finals):
                    for seed in self.study.seeds:
                        found.setdefault(
                            (name, case.name, seed),
                            self.training(case, base, point, seed, 'control', change, name),
                        )
        return list(found.values())

    def _control_changes(
        self, cfg: Config, arm: Arm, base: Arm, case: Case, finals: Sequence[Training]
    ) -> list[tuple[str, dict[str, Any]]]:
        changes = []
        losses = cfg.model.get('distiller', {}).get('distill_losses', {})
        if losses:
            prefix = 'model.distiller.distill_losses'
            doubled = {
                f'{prefix}.{name}.loss_weight': 2 * loss.get('loss_weight', 1.0)
                for name, loss in losses.items()
            }
            changes.append((f'{base.name}, distillation x 2', doubled))
        path = 'model.architecture.head.loss' if losses else 'model.head.loss'
        head = cfg.model.architecture.head if losses else cfg.model.get('head', {})
        own = head.get('loss') or {}
        weight = own.get('loss_weight', 1.0)
        if 'loss' in head and weight:
            changes.append((f'{base.name}, own loss x 2', {f'{path}.loss_weight': 2 * weight}))
        lengths = [
            [each.task.result().get('step_length') for each in _of(finals, name, case.name)]
            for name in (arm.name, base.name)
        ]
        if all(length and None not in length for length in lengths):
            ratio = sum(lengths[0]) / sum(lengths[1])
            rate = cfg.optim_wrapper.optimizer.lr * float(f'{ratio:.3g}')
            changes.append(
                (
                    f'{base.name}, steps of {arm.name}',
                    {'optim_wrapper.optimizer.lr': rate},
                )
            )
        return changes


def _of(trainings: Sequence[Training], arm: str, case: str) -> list[Training]:
    return [each for each in trainings if (each.arm, each.case) == (arm, case)]


def _checkpoint(network: Task) -> str | None:
    return (network.result() or {}).get('checkpoint')


def _reads_logits(cfg: Config) -> bool:
    return cfg.model.get('teacher_logits') is not None


def _tests(cfg: Config) -> str:
    return fingerprint(
        Config({name: cfg[name].dataset for name in ('val_dataloader', 'test_dataloader')}), None
    )


def fingerprint(cfg: Config, beside: Any) -> str:
    """Twelve hexadecimal digits of all that a result depends on.

    Args:
        cfg: a config. Where things lie on this machine does not count.
        beside: what else there is.
    """
    content = {name: each for name, each in cfg.to_dict().items() if name not in PLACES}
    if isinstance(content.get('model'), dict):
        places = ('teacher_ckpt', 'teacher_logits')
        content['model'] = {
            name: bool(each) if name in places else each for name, each in content['model'].items()
        }
    drawn = sorted(set(data_checksums(content)))
    text = json.dumps([__version__, content, drawn, beside], sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:12]

"""What a study asks, read from a Python config that holds one dict, ``study``."""

from __future__ import annotations

import itertools
import os.path as osp
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from mmengine.config import Config

from mmkendall.engine.distill_config import ConfigError, load_config


class StudyError(ConfigError):
    """A study that cannot be carried out as it is written."""


@dataclass(frozen=True)
class Teacher:
    """Who teaches: a network, or what is made of another teacher.

    Args:
        name: for people.
        config: of a network that is trained alone. Either this or ``of``.
        change: of that config, as a config that inherits it would write it.
        checkpoint: of that network, where it is trained already. Defaults to None: the study
            trains it.
        seed: of its training.
        of: names of the teachers that it is made of; one name stands for a list of one.
        by: what is done to their scores or their features, see
            :mod:`mmkendall.studies.teachers`: ``dict(type=..., ...)``.
    """

    name: str
    config: str | None = None
    change: dict = field(default_factory=dict)
    checkpoint: str | None = None
    seed: int = 0
    of: Sequence[str] = ()
    by: dict | None = None


@dataclass(frozen=True)
class Case:
    """The conditions under which all arms are compared.

    Args:
        name: for people.
        teacher: the name of the teacher. Defaults to the study's first.
        change: of the config of every arm: the data, the student.
        pool: cases of one pool are also looked at together, each counting alike. Defaults to
            None, this case alone.
    """

    name: str
    teacher: str | None = None
    change: dict = field(default_factory=dict)
    pool: str | None = None


@dataclass(frozen=True)
class Arm:
    """A way to train the student.

    Args:
        name: for people.
        config: the config, a file or ``package::path``: a distillation or the student alone.
        change: of that config.
        terms: of the loss, in place of those of the config, see
            :func:`mmkendall.studies.terms.change_of`. Defaults to none, those of the config.
        grid: by the name of a setting, the values that are tried on the validation set. Every
            combination is, for each case. A name is ``TERM.OPTION``, ``own``, one of the study's
            ``names``, or a dotted path of the config.
        beside: the arm that this one adds a term to: it is compared with it, and controls of it
            are run.
        cases: names of the cases where it takes part. Defaults to None, all of them.
    """

    name: str
    config: str
    change: dict = field(default_factory=dict)
    terms: dict = field(default_factory=dict)
    grid: dict[str, list] = field(default_factory=dict)
    beside: str | None = None
    cases: Sequence[str] | None = None

    def points(self) -> list[dict[str, Any]]:
        """Every combination of the grid's values; one empty one where there is no grid."""
        return [
            dict(zip(self.grid, values, strict=True))
            for values in itertools.product(*self.grid.values())
        ]


@dataclass(frozen=True)
class Study:
    """What is asked, and by which trainings.

    Args:
        name: of the file, without its ending.
        about: the question, one paragraph.
        teachers: by name. May be empty where no arm distils.
        cases: by name.
        arms: by name.
        seeds: of the trainings that are compared.
        tune_seeds: of those that choose among a grid, on the validation set alone.
        names: short names of settings, by dotted paths of the config.
        change: of the config of every arm in every case.
        select: the measure of the validation set by which a grid's point is chosen.
        baseline: the arm that every other is compared with. Defaults to None: arms are compared
            with what they stand beside.
        compare: further pairs (arm, rival).
        controls: whether to train, for each arm that stands beside another, the other with twice
            the weight of its distillation losses, with twice the weight of the student's own
            loss, and with a learning rate that makes its steps as long as the arm's.
        probe: the configs of two datasets, ``train`` and ``test``, of classes that no training
            sees: on the student's features of the one a linear classifier is fitted, its accuracy
            on the other is the measure ``probe``. Defaults to none.
        processes: of one training, more than 1 under torchrun.
    """

    name: str
    about: str
    teachers: dict[str, Teacher]
    cases: dict[str, Case]
    arms: dict[str, Arm]
    seeds: Sequence[int] = (1, 2, 3)
    tune_seeds: Sequence[int] = (0,)
    names: dict[str, str] = field(default_factory=dict)
    change: dict = field(default_factory=dict)
    select: str = 'top1'
    baseline: str | None = None
    compare: Sequence[tuple[str, str]] = ()
    controls: bool = True
    probe: dict = field(default_factory=dict)
    processes: int = 1

    def pairs(self) -> list[tuple[str, str]]:
        """(arm, rival) for all that are compared, each once."""
        found = [(arm.name, arm.beside) for arm in self.arms.values() if arm.beside]
        if self.baseline is not None:
            found += [(name, self.baseline) for name in self.arms if name != self.baseline]
        return list(dict.fromkeys([*found, *map(tuple, self.compare)]))

    def arms_of(self, case: Case) -> list[Arm]:
        """Those that take part in a case."""
        return [arm for arm in self.arms.values() if arm.cases is None or case.name in arm.cases]


def read_study(path: str) -> Study:
    """Reads a study and checks that what it names is there.

    Args:
        path: a Python config, or ``package::path``, that sets ``study``. Paths in it are from
            its folder on.

    Raises:
        StudyError: something in it is missing, unknown or of no use.
        ConfigError: the file or a config that it names cannot be read.
    """
    cfg = load_config(path)
    content = cfg.get('study')
    if not isinstance(content, Mapping):
        raise StudyError(f'{path}: a study must set study = dict(...), got {type(content)}')
    content = Config(dict(study=content)).to_dict()['study']
    folder = osp.dirname(cfg.filename)
    parts = {
        'teachers': _entries(content.pop('teachers', {}), Teacher, path, folder),
        'cases': _entries(content.pop('cases', {'all': {}}), Case, path, folder),
        'arms': _entries(content.pop('arms', {}), Arm, path, folder),
    }
    name = osp.splitext(osp.basename(cfg.filename))[0]
    study = _build(Study, {'name': name, 'about': '', **content, **parts}, f'{path}: study')
    _check(study, path)
    return study


def _entries(entries: Any, kind: type, path: str, folder: str) -> dict:
    """The teachers, cases or arms, by name."""
    what = f'{path}: {kind.__name__.lower()}s'
    if not isinstance(entries, Mapping):
        raise StudyError(f'{what} must be a dict of dicts by name, got {entries!r}')
    built = {}
    for name, entry in entries.items():
        if not isinstance(entry, Mapping):
            raise StudyError(f'{what}[{name!r}] must be a dict, got {entry!r}')
        entry = dict(entry)
        for key in ('config', 'checkpoint'):
            if isinstance(entry.get(key), str) and '://' not in entry[key]:
                entry[key] = _from_folder(entry[key], folder)
        if isinstance(entry.get('of'), str):
            entry['of'] = [entry['of']]
        built[name] = _build(kind, {'name': name, **entry}, f'{what}[{name!r}]')
    return built


def _from_folder(path: str, folder: str) -> str:
    return path if '::' in path or osp.isabs(path) else osp.normpath(osp.join(folder, path))


def _build(kind: type, values: dict, what: str) -> Any:
    known = [each.name for each in fields(kind)]
    unknown = [name for name in values if name not in known]
    if unknown:
        raise StudyError(f'{what} has no {unknown[0]!r}; it takes {", ".join(known[1:])}')
    try:
        return kind(**values)
    except TypeError as error:
        missing = str(error).partition('argument')[2].lstrip('s: ')
        raise StudyError(f'{what} lacks {missing}') from error


def _check(study: Study, path: str) -> None:
    if not study.arms:
        raise StudyError(f'{path}: study.arms must name one arm at least, got none')
    for name, seeds in (('seeds', study.seeds), ('tune_seeds', study.tune_seeds)):
        whole = all(isinstance(seed, int) and seed >= 0 for seed in seeds)
        if not seeds or not whole or len(set(seeds)) < len(seeds):
            raise StudyError(
                f'{path}: study.{name} must be whole numbers of 0 or more, each once, got {seeds}'
            )
    for teacher in study.teachers.values():
        what = f'{path}: teachers[{teacher.name!r}]'
        if (teacher.config is None) == (not teacher.of):
            raise StudyError(f'{what} needs either config, for a network, or of, and not both')
        if bool(teacher.of) != (teacher.by is not None):
            raise StudyError(f'{what}: of and by go together, got of={teacher.of}')
        _known(teacher.of, study.teachers, f'{what}.of')
    for case in study.cases.values():
        if case.teacher is not None:
            _known([case.teacher], study.teachers, f'{path}: cases[{case.name!r}].teacher')
    for arm in study.arms.values():
        what = f'{path}: arms[{arm.name!r}]'
        _known(arm.cases or (), study.cases, f'{what}.cases')
        _known([arm.beside] if arm.beside else (), study.arms, f'{what}.beside')
        for name, values in arm.grid.items():
            if not isinstance(values, (list, tuple)) or not values:
                raise StudyError(f'{what}.grid[{name!r}] must be a list of values, got {values!r}')
    _known([study.baseline] if study.baseline else (), study.arms, f'{path}: study.baseline')
    if study.probe and set(study.probe) != {'train', 'test'}:
        raise StudyError(
            f'{path}: study.probe needs the datasets train and test, got {", ".join(study.probe)}'
        )
    for pair in study.compare:
        if len(pair) != 2:
            raise StudyError(f'{path}: study.compare takes pairs (arm, rival), got {pair}')
        _known(pair, study.arms, f'{path}: study.compare')


def _known(names: Iterable[str], among: Mapping[str, Any], what: str) -> None:
    for name in names:
        if name not in among:
            raise StudyError(f'{what}: there is no {name!r} among {", ".join(among) or "none"}')


def changed(cfg: Config, change: Mapping[str, Any], what: str) -> None:
    """Puts changes into a config, in place, as a config that inherits it would.

    Args:
        cfg: the config.
        change: nested dicts, or dotted paths and their values.
        what: who asks for them, for messages.

    Raises:
        StudyError: one does not fit.
    """
    for key, value in change.items():
        try:
            cfg.merge_from_dict({key: value})
        except (KeyError, TypeError, IndexError, AttributeError, AssertionError) as error:
            reason = error.args[0] if error.args else type(error).__name__
            raise StudyError(
                f'{what}: {key}={value!r} does not fit into the config: {reason}'
            ) from error

"""What came out of a study, as tables.

``runs.csv``
    A row a training: :data:`RUN_COLUMNS`, then the measures of the validation and the test set.
``arms.csv``
    A row an arm and case: means and standard deviations over the seeds.
``differences.csv``
    A row a pair of arms and a case, or a pool of cases: :data:`DIFFERENCE_COLUMNS`.
``teachers.csv``
    A row a case with a teacher: the properties of its scores on the validation set.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmkendall.studies.plan import Task, Training
from mmkendall.studies.properties import properties
from mmkendall.studies.statistics import (
    Difference,
    over_cases,
    over_seeds,
    over_seeds_and_groups,
)
from mmkendall.studies.study import Study
from mmkendall.whole_files import write_atomically

RUN_COLUMNS = (
    'study', 'case', 'arm', 'phase', 'seed', 'setting', 'teacher', 'fingerprint', 'diverged',
    'epochs', 'iterations', 'train_seconds', 'seconds', 'step_length', 'parameters',
    'mmkendall', 'torch', 'mmengine', 'python', 'device', 'processor', 'commit',
)  # fmt: skip
DIFFERENCE_COLUMNS = (
    'study', 'case', 'arm', 'rival', 'measure', 'over', 'mean', 'low', 'high', 'p_value', 'count',
    'comparisons', 'verdict',
)  # fmt: skip
# What tables of people show, in this order, where it was measured.
MEASURES = (
    'top1', 'top5', 'nll', 'ece', 'nll_scaled', 'ece_scaled', 'agreement', 'top5_overlap', 'tau',
    'tau_low', 'same_superclass', 'top1_left_out', 'top1_shown', 'probe',
)  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """One difference of a study.

    Attributes:
        case: its name, or that of a pool of cases.
        arm: what is compared.
        rival: with what.
        measure: of the test set.
        over: what the interval is for: ``'seeds'``, ``'seeds and groups'`` or ``'cases'``.
        difference: arm minus rival.
    """

    case: str
    arm: str
    rival: str
    measure: str
    over: str
    difference: Difference


class Results:
    """The trainings of a study that are done.

    Args:
        study: what was asked.
        trainings: all of them; only those that are done count.
    """

    def __init__(self, study: Study, trainings: Sequence[Training]) -> None:
        self.study = study
        self.trainings = [each for each in trainings if each.task.result() is not None]

    def of(self, arm: str, case: str) -> list[Training]:
        """The trainings of an arm that are compared, by seed."""
        return [
            each
            for each in self.trainings
            if each.phase != 'tune' and (each.arm, each.case) == (arm, case)
        ]

    def arms(self, case: str) -> list[str]:
        """Arms and controls of a case, in the order of the study."""
        return list(
            dict.fromkeys(
                each.arm for each in self.trainings if each.phase != 'tune' and each.case == case
            )
        )

    def values(self, arm: str, case: str, name: str) -> list[float]:
        """A measure of the test set, a value a seed."""
        return [each.measure('test', name) for each in self.of(arm, case)]

    def seconds_per_step(self, arm: str, case: str) -> float:
        """The median over the seeds, NaN where no iteration was timed."""
        results = [each.task.result() for each in self.of(arm, case)]
        taken = [
            each['train_seconds'] / each['iterations']
            for each in results
            if each.get('iterations')
        ]
        return float(np.median(taken)) if taken else math.nan

    def lesson(self, case: str) -> Task | None:
        """What wrote down the scores of the teacher of a case."""
        for each in self.trainings:
            lesson = next(iter(each.task.needs), None)
            if each.case == case and lesson is not None:
                return lesson
        return None

    def teacher(self, case: str) -> tuple[str, float] | None:
        """Name and top-1 on the test set of the teacher of a case."""
        lesson = self.lesson(case)
        return lesson and (lesson.about['teacher'], lesson.result()['test_top1'])

    def teacher_rows(self) -> list[dict[str, Any]]:
        """``teachers.csv``."""
        rows = []
        for case in self.study.cases:
            lesson = self.lesson(case)
            if lesson is not None:
                said = np.load(lesson.folder / 'val.npz')
                names = {
                    'study': self.study.name,
                    'case': case,
                    'teacher': lesson.about['teacher'],
                }
                rows.append({**names, **properties(said['scores'], said['labels'])})
        return rows

    def pairs(self, case: str) -> list[tuple[str, str]]:
        """What is compared in a case: the study's pairs, and arms with controls beside them."""
        here = self.arms(case)
        found = [pair for pair in self.study.pairs() if pair[0] in here and pair[1] in here]
        for arm in self.study.arms.values():
            if arm.beside is None or arm.name not in here:
                continue
            found += [
                (arm.name, name)
                for name in here
                if name not in self.study.arms
                and name.startswith(f'{arm.beside}, ')
                and (', steps of ' not in name or name.endswith(f', steps of {arm.name}'))
            ]
        return found

    def differences(self, measure: str = 'top1') -> list[Compared]:
        """Every pair in every case, and in every pool of cases."""
        found = []
        for case in self.study.cases:
            pairs = self.pairs(case)
            for arm, rival in pairs:
                found += self._compare(case, arm, rival, measure, len(pairs))
        for pool in dict.fromkeys(each.pool for each in self.study.cases.values() if each.pool):
            cases = [each.name for each in self.study.cases.values() if each.pool == pool]
            pairs = list(dict.fromkeys(pair for case in cases for pair in self.pairs(case)))
            for arm, rival in pairs:
                within = [
                    each.difference
                    for each in found
                    if (each.arm, each.rival, each.over) == (arm, rival, 'seeds')
                    and each.case in cases
                ]
                if len(within) > 1:
                    difference = over_cases(within, len(pairs))
                    found.append(Compared(pool, arm, rival, measure, 'cases', difference))
        return found

    def _compare(
        self, case: str, arm: str, rival: str, measure: str, comparisons: int
    ) -> list[Compared]:
        by_seed = [{each.seed: each for each in self.of(name, case)} for name in (arm, rival)]
        seeds = [
            seed
            for seed in by_seed[0]
            if seed in by_seed[1]
            and not any(math.isnan(each[seed].measure('test', measure)) for each in by_seed)
        ]
        if not seeds:
            return []
        values = [[each[seed].measure('test', measure) for seed in seeds] for each in by_seed]
        found = [Compared(case, arm, rival, measure, 'seeds', over_seeds(*values, comparisons))]
        groups = [[each[seed].task.result().get('test_groups') for seed in seeds]
                  for each in by_seed]  # fmt: skip
        if measure == 'top1' and all(all(each) for each in groups) and len(seeds) > 1:
            samples = groups[0][0]['samples']
            shares = [
                100 * np.array([one['right'] for one in each]) / np.array(samples)
                for each in groups
            ]
            difference = over_seeds_and_groups(*shares, samples, comparisons)
            found.append(Compared(case, arm, rival, measure, 'seeds and groups', difference))
        return found

    # Files.

    def run_rows(self) -> list[dict[str, Any]]:
        """``runs.csv``."""
        rows = []
        for each in self.trainings:
            result = each.task.result()
            row = {name: result.get(name) for name in RUN_COLUMNS}
            row.update(
                study=self.study.name, case=each.case, arm=each.arm, phase=each.phase,
                seed=each.seed, setting=json.dumps(each.point) if each.point else '',
            )  # fmt: skip
            for split in ('val', 'test'):
                for name, value in result.get(split, {}).items():
                    row[f'{split}_{name}'] = value
            rows.append(row)
        return rows

    def arm_rows(self) -> list[dict[str, Any]]:
        """``arms.csv``."""
        rows = []
        for case in self.study.cases:
            for arm in self.arms(case):
                trainings = self.of(arm, case)
                row: dict[str, Any] = {
                    'study': self.study.name,
                    'case': case,
                    'arm': arm,
                    'seeds': len(trainings),
                    'diverged': sum('diverged' in each.task.result() for each in trainings),
                    'setting': json.dumps(trainings[0].point) if trainings[0].point else '',
                    'seconds_per_step': self.seconds_per_step(arm, case),
                }
                for name in MEASURES:
                    values = self.values(arm, case, name)
                    if all(map(math.isnan, values)):
                        continue
                    row[name] = float(np.nanmean(values))
                    if len(values) > 1:
                        row[f'{name}_sd'] = float(np.nanstd(values, ddof=1))
                rows.append(row)
        return rows

    def difference_rows(self) -> list[dict[str, Any]]:
        """``differences.csv``, of every measure of :data:`MEASURES` that there is."""
        rows = []
        for measure in MEASURES:
            for each in self.differences(measure):
                pool = each.over == 'cases'
                rows.append(
                    {
                        'study': self.study.name,
                        'case': each.case,
                        'arm': each.arm,
                        'rival': each.rival,
                        'measure': measure,
                        'over': each.over,
                        'mean': each.difference.mean,
                        'low': each.difference.low,
                        'high': each.difference.high,
                        'p_value': each.difference.p_value,
                        'count': each.difference.count,
                        'comparisons': '' if pool else len(self.pairs(each.case)),
                        'verdict': each.difference.verdict,
                    }
                )
        return rows

    def write(self, folder: Path) -> list[str]:
        """Writes the tables, that of the teachers where there are any, and returns their names."""
        folder.mkdir(parents=True, exist_ok=True)
        tables = {
            'runs.csv': self.run_rows(),
            'arms.csv': self.arm_rows(),
            'differences.csv': self.difference_rows(),
        }
        teachers = self.teacher_rows()
        if teachers:
            tables['teachers.csv'] = teachers
        for name, rows in tables.items():
            write_csv(folder / name, rows)
        return list(tables)


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Writes rows as CSV, whole; the columns are all that a row has."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator='\n')
    writer.writeheader()
    for row in rows:
        writer.writerow({name: readable(value) for name, value in row.items()})
    write_atomically(str(path), text.getvalue().encode())


def readable(value: Any) -> Any:
    """A value with the digits that mean something."""
    if isinstance(value, float):
        return '' if math.isnan(value) else f'{value:.6g}'
    return '' if value is None else value

from __future__ import annotations

import os.path as osp
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import get_dist_info
from mmengine.evaluator import BaseMetric

from mmkendall.class_names import class_names, compare_classes
from mmkendall.compat.safe_loading import load_pickle
from mmkendall.evaluation.measures import taus
from mmkendall.registry import METRICS
from mmkendall.warn_once import warn_once


class TeacherResultsError(ValueError):
    """A file of the teacher's predictions that the student can't be measured against."""


@METRICS.register_module()
class KendallTau(BaseMetric):
    """How much a classifier ranks the classes as its teacher does: Kendall's tau-b, averaged.

    The teacher's scores come from a file, so that a student trained without a teacher is measured
    in the same way as a distilled one.

    Metrics:
        - ``kendall/tau_b``: the mean over the images of tau-b over all classes, -1 to 1.
        - ``kendall/tau_b_low``: the same over the half of the classes that the teacher puts
          lowest, to which a KL divergence gives next to no gradient.

    A sample is found in the teacher's file by its ``sample_idx``. Where that repeats, as in a
    ``ConcatDataset``, it is the one at the same place of the dataset. In both cases its label and
    the name of its image must be the teacher's, and the classes must have the same numbers.

    Args:
        teacher_results: the teacher's predictions on the same dataset, as
            ``tools/test.py CONFIG CHECKPOINT --out FILE.pkl`` writes them; also those of a
            ``DumpResults`` of mmengine, which do not say how the classes are called. With None
            nothing is measured, so that a config can carry the metric and ``--cfg-options`` turn
            it on.
        classes: numbers of the classes that count, where the others are masked in the student or
            the teacher. Defaults to None, all of them.
        collect_device: ``'cpu'`` or ``'gpu'``, where processes exchange results.
        prefix: replaces ``kendall`` in the names of the metrics.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableCheckpointError: the file holds what could run code, or is torn.
        ValueError: ``classes`` are fewer than two, one of them twice or below 0.
        TeacherResultsError, ClassNamesError: the file holds no predictions, or those of other
            samples or classes.

    Example::

        val_evaluator = [
            dict(type='mmpretrain.Accuracy'),
            dict(type='mmkendall.KendallTau', teacher_results='work_dirs/teacher/test.pkl')]
    """

    default_prefix = 'kendall'

    def __init__(
        self,
        teacher_results: str | None = None,
        classes: Sequence[int] | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.teacher_results = teacher_results
        self.classes = None if classes is None else sorted({*classes})
        if self.classes is not None and (
            len(self.classes) != len(classes) or len(self.classes) < 2 or self.classes[0] < 0
        ):
            raise ValueError(
                f'classes must be the numbers of two classes at least, each once, got {classes}'
            )
        if teacher_results is None:
            return
        if not osp.isfile(teacher_results):
            raise FileNotFoundError(
                f'teacher_results {teacher_results!r} does not exist; write it with '
                f'tools/test.py CONFIG CHECKPOINT --out {teacher_results}'
            )
        results = load_pickle(teacher_results)
        if not _are_predictions(results):
            raise TeacherResultsError(
                f'teacher_results {teacher_results!r} must be a list of predictions with '
                'pred_score, as tools/test.py --out FILE.pkl writes it'
            )
        for place, result in enumerate(results):
            score = result['pred_score']
            if score.shape != results[0]['pred_score'].shape or not score.isfinite().all():
                raise TeacherResultsError(
                    f'teacher_results {teacher_results!r}: pred_score of prediction {place} must '
                    f'hold {len(results[0]["pred_score"])} finite scores, got shape '
                    f'{tuple(score.shape)}, {int(score.isfinite().sum())} of them finite'
                )
        self.teacher = results
        self.places = {result['sample_idx']: place for place, result in enumerate(results)}
        self.repeats = len(self.places) < len(results)

    @BaseMetric.dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict | None) -> None:
        """Set as the loop is built, so that other classes end a training before it starts."""
        self._dataset_meta = dataset_meta
        if self.teacher_results is not None:
            compare_classes(
                f'teacher_results {self.teacher_results!r}',
                class_names(self.teacher[0]),
                'the dataset',
                class_names(dataset_meta),
            )

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Adds the tau-b of each sample of a batch to the results.

        Args:
            data_batch: unused.
            data_samples: predictions with ``sample_idx`` and ``pred_score`` (C,).
        """
        if self.teacher_results is None:
            # A None that counts as one result: mmengine warns of a metric without results.
            self.results.extend(None for _ in data_samples)
            return
        teacher = torch.stack(
            [
                self._of_teacher(sample, len(self.results) + index)['pred_score']
                for index, sample in enumerate(data_samples)
            ]
        ).cpu()
        student = torch.stack([sample['pred_score'] for sample in data_samples]).cpu()
        if student.shape != teacher.shape:
            raise TeacherResultsError(
                f'teacher_results {self.teacher_results!r} scores {teacher.shape[1]} classes, the '
                f'model scores {student.shape[1]}: they must be the same'
            )
        if self.classes is not None:
            if self.classes[-1] >= student.shape[1]:
                raise TeacherResultsError(
                    f'classes holds {self.classes[-1]}, and {student.shape[1]} are scored, '
                    'counted from 0'
                )
            student, teacher = student[:, self.classes], teacher[:, self.classes]
        for owner, scores in (('the model', student), ('the teacher', teacher)):
            _warn_of_zeros(owner, scores)
        tau, tau_low = taus(student, teacher)
        finite = student.isfinite().all(dim=1)
        self.results.extend(zip(tau.tolist(), tau_low.tolist(), finite.tolist(), strict=True))

    def _of_teacher(self, sample: dict, number: int) -> dict:
        """The teacher's prediction for a sample, the one of this number in this process."""
        if self.repeats:
            # As mmengine's DefaultSampler deals them out and its collect_results puts them back.
            rank, processes = get_dist_info()
            place = (number * processes + rank) % len(self.teacher)
        else:
            place = self.places.get(sample['sample_idx'])
        found = None if place is None else self.teacher[place]
        if found is None or found['sample_idx'] != sample['sample_idx']:
            reason = (
                'its numbers repeat, so that only an equal order tells the samples apart'
                if self.repeats
                else 'it was made on another dataset'
            )
            raise TeacherResultsError(
                f'teacher_results {self.teacher_results!r} lacks sample {sample["sample_idx"]}'
                f'{f" at place {place}" if self.repeats else ""}: {reason}. Make it on the '
                'dataset of this evaluation, without shuffling'
            )
        for name, identify in (('gt_label', _as_list), ('img_path', osp.basename)):
            if name in found and name in sample:
                theirs, ours = identify(found[name]), identify(sample[name])
                if theirs != ours:
                    raise TeacherResultsError(
                        f'teacher_results {self.teacher_results!r} is of other data: {name} of '
                        f'sample {sample["sample_idx"]} is {theirs} there and {ours} here. Make '
                        'it on the dataset of this evaluation'
                    )
        return found

    def compute_metrics(self, results: list) -> dict[str, float]:
        """The means; a sample whose tau-b is undefined (a constant row) is left out.

        Scores of the student that are not finite make them NaN.
        """
        if self.teacher_results is None:
            return {}
        *taus, finite = zip(*results, strict=True)
        if not all(finite):
            return dict.fromkeys(('tau_b', 'tau_b_low'), float('nan'))
        tau, tau_low = torch.tensor(taus, dtype=torch.float64).nanmean(dim=1).tolist()
        return {'tau_b': tau, 'tau_b_low': tau_low}


def _are_predictions(results: Any) -> bool:
    return (
        isinstance(results, list)
        and bool(results)
        and all(
            isinstance(result, dict)
            and 'sample_idx' in result
            and isinstance(result.get('pred_score'), torch.Tensor)
            for result in results
        )
    )


def _warn_of_zeros(owner: str, scores: torch.Tensor) -> None:
    """Warns where probabilities have underflowed, so that the order of their classes is lost."""
    if ((scores == 0).sum(dim=1) > 1).any():
        warn_once(
            f'KendallTau: of some samples, several probabilities of {owner} are 0, which counts '
            'as ties. So end logits that lie more than 103 below the highest. Where it is classes '
            'that are masked, name the others in classes'
        )


def _as_list(label: Any) -> Any:
    return label.flatten().tolist() if isinstance(label, torch.Tensor) else label

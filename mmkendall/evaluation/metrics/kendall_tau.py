from __future__ import annotations

import os.path as osp
from collections.abc import Sequence

import torch
from mmengine.evaluator import BaseMetric
from mmengine.fileio import load

from mmkendall.functional import kendall_tau
from mmkendall.registry import METRICS


@METRICS.register_module()
class KendallTau(BaseMetric):
    """How much a classifier ranks the classes as its teacher does: Kendall's tau-b, averaged.

    The teacher's scores come from a file, so that a student trained without a teacher is measured
    in the same way as a distilled one.

    Metrics:
        - ``kendall/tau_b``: the mean over the images of tau-b over all classes, -1 to 1.
        - ``kendall/tau_b_low``: the same over the half of the classes that the teacher puts
          lowest, to which a KL divergence gives next to no gradient.

    Args:
        teacher_results: the teacher's predictions on the same dataset, as
            ``tools/test.py CONFIG CHECKPOINT --out FILE.pkl`` writes them. With None nothing is
            measured, so that a config can carry the metric and ``--cfg-options`` turn it on.
        collect_device: ``'cpu'`` or ``'gpu'``, where processes exchange results.
        prefix: replaces ``kendall`` in the names of the metrics.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds no predictions, or lacks a sample.

    Example::

        val_evaluator = [
            dict(type='mmpretrain.Accuracy'),
            dict(type='mmkendall.KendallTau', teacher_results='work_dirs/teacher/test.pkl')]
    """

    default_prefix = 'kendall'

    def __init__(
        self,
        teacher_results: str | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.teacher_results = teacher_results
        if teacher_results is None:
            return
        if not osp.isfile(teacher_results):
            raise FileNotFoundError(
                f'teacher_results {teacher_results!r} does not exist; write it with '
                f'tools/test.py CONFIG CHECKPOINT --out {teacher_results}'
            )
        results = load(teacher_results)
        if not (isinstance(results, list) and results and 'pred_score' in results[0]):
            raise ValueError(
                f'teacher_results {teacher_results!r} must be a list of predictions with '
                'pred_score, as tools/test.py --out FILE.pkl writes it'
            )
        self.teacher_scores = {result['sample_idx']: result['pred_score'] for result in results}

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
        try:
            teacher = torch.stack(
                [self.teacher_scores[sample['sample_idx']] for sample in data_samples]
            ).cpu()
        except KeyError as missing:
            raise ValueError(
                f'teacher_results {self.teacher_results!r} lacks sample {missing}: it was made on '
                'another dataset'
            ) from missing
        student = torch.stack([sample['pred_score'] for sample in data_samples]).cpu()
        lowest = teacher.argsort(dim=1)[:, : (teacher.shape[1] + 1) // 2]
        tau = kendall_tau(student, teacher)
        tau_low = kendall_tau(student.gather(1, lowest), teacher.gather(1, lowest))
        self.results.extend(zip(tau.tolist(), tau_low.tolist(), strict=True))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """The means; a sample whose tau-b is undefined (a constant row) is left out."""
        if self.teacher_results is None:
            return {}
        tau, tau_low = torch.tensor(results, dtype=torch.float64).nanmean(dim=0).tolist()
        return {'tau_b': tau, 'tau_b_low': tau_low}

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmengine.evaluator import BaseMetric

from mmkendall.evaluation.measures import Predictions
from mmkendall.registry import METRICS


@METRICS.register_module()
class KeepPredictions(BaseMetric):
    """Keeps what a classifier says of every sample, for measures that need all of it at once.

    Attributes:
        predictions: after the evaluation, the ``Predictions`` of the dataset in its order:
            the logarithms of ``pred_score``, the labels, and the groups where each sample says
            its ``group``. None in all processes but the first.

    Args:
        collect_device: ``'cpu'`` or ``'gpu'``, where processes exchange results.
        prefix: in front of the names of metrics, of which there are none.

    Example::

        test_evaluator = [dict(type='mmkendall.KeepPredictions')]
    """

    default_prefix = 'kept'

    def __init__(self, collect_device: str = 'cpu', prefix: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.predictions: Predictions | None = None

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keeps a batch.

        Args:
            data_batch: unused.
            data_samples: predictions with ``pred_score`` (C,) and ``gt_label`` of one class.

        Raises:
            ValueError: a sample has several labels.
        """
        for sample in data_samples:
            label = sample['gt_label']
            if label.numel() != 1:
                raise ValueError(
                    'KeepPredictions needs one label a sample, got '
                    f'{label.numel()}: it is for single-label classifiers'
                )
            with np.errstate(divide='ignore'):  # A probability that underflowed to 0 is last.
                scores = np.log(sample['pred_score'].detach().float().cpu().numpy())
            self.results.append((scores, int(label), sample.get('group')))

    def compute_metrics(self, results: list) -> dict:
        """Puts the samples together; there is no figure to log."""
        scores, labels, groups = zip(*results, strict=True)
        self.predictions = Predictions(
            np.stack(scores),
            np.array(labels),
            None if groups[0] is None else np.array(groups),
        )
        return {}

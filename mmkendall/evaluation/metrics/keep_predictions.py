from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mmkendall.evaluation.measures import Predictions
from mmkendall.registry import METRICS


@METRICS.register_module()
class KeepPredictions(BaseMetric):
    """Keeps what a classifier says of every sample, for measures that need all of it at once.

    Attributes:
        predictions: after the evaluation, the ``Predictions`` of the dataset in its order:
            the logits of the head that it watches, else the logarithms of ``pred_score``; the
            labels; and the groups where each sample says its ``group``. None in all processes but
            the first.

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
        self._logits: Tensor | None = None

    def watch(self, head: nn.Module) -> RemovableHandle:
        """Keeps the logits of a classification head, not the logarithms of its probabilities.

        A probability under 1e-45 is 0 in float32. So of logits that lie more than 103 below the
        highest neither the order is left nor what a temperature would make of them.

        Args:
            head: of the model that is evaluated. The probabilities stay where they are not the
                softmax of what its forward returns.

        Returns:
            What ends it, a context manager too.
        """
        return head.register_forward_hook(self._see)

    def _see(self, head: nn.Module, inputs: tuple, output: object) -> None:
        if isinstance(output, Tensor) and not head.training:
            self._logits = output.detach()

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keeps a batch.

        Args:
            data_batch: unused.
            data_samples: predictions with ``pred_score`` (C,) and ``gt_label`` of one class.

        Raises:
            ValueError: a sample has several labels.
        """
        all_scores = self._scores(data_samples)
        for sample, scores in zip(data_samples, all_scores, strict=True):
            label = sample['gt_label']
            if label.numel() != 1:
                raise ValueError(
                    'KeepPredictions needs one label a sample, got '
                    f'{label.numel()}: it is for single-label classifiers'
                )
            self.results.append((scores, int(label), sample.get('group')))

    def _scores(self, data_samples: Sequence[dict]) -> np.ndarray:
        """(N, C), logits or logarithms of probabilities."""
        logits, self._logits = self._logits, None
        probabilities = torch.stack([sample['pred_score'].detach() for sample in data_samples])
        probabilities = probabilities.float()
        if logits is not None and logits.shape == probabilities.shape:
            logits = logits.float().to(probabilities.device)
            # As near as half precision, in which either may have been computed.
            if torch.allclose(logits.softmax(dim=1), probabilities, atol=1e-2):
                return logits.cpu().numpy()
        return probabilities.log().cpu().numpy()

    def compute_metrics(self, results: list) -> dict:
        """Puts the samples together; there is no figure to log."""
        scores, labels, groups = zip(*results, strict=True)
        self.predictions = Predictions(
            np.stack(scores),
            np.array(labels),
            None if groups[0] is None else np.array(groups),
        )
        return {}

"""What can be said of a teacher's scores before any student is trained."""

from __future__ import annotations

import numpy as np
from scipy.stats import kurtosis

from mmkendall.evaluation.measures import (
    Predictions,
    fit_temperature,
    negative_log_likelihood,
    top_k,
)

PROPERTIES = {
    'top1': 'percent of the images that it gets right',
    'spread': 'standard deviation of the scores of an image',
    'spread_varies': 'how much that differs from image to image: the deviation of its logarithm',
    'kurtosis': 'excess kurtosis of the scores of an image: wild classes, or votes for a few',
    'tied': 'percent of the pairs of classes with equal scores',
    'nll': 'negative log-likelihood of the labels, the scores taken for logits, in nats',
    'nll_scaled': 'the same at the temperature at which it is lowest',
}


def properties(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The properties of :data:`PROPERTIES`, means over the images.

    A class at minus infinity is taken for one a spread of the image below its lowest finite one.

    Args:
        scores: (N, C), of images that the teacher was not trained on.
        labels: (N,).
    """
    scores = scores.astype(np.float64)
    finite = np.isfinite(scores)
    shown = np.where(finite, scores, np.nan)
    below = np.nanmin(shown, axis=1) - np.nanstd(shown, axis=1)
    scores = np.where(finite, scores, below[:, None])
    predictions = Predictions(scores, labels)
    deviations = scores.std(axis=1)
    told = deviations > 0
    return {
        'top1': top_k(predictions, 1),
        'spread': float(deviations.mean()),
        'spread_varies': float(np.log(deviations[told]).std()) if told.any() else 0.0,
        'kurtosis': float(np.mean(kurtosis(scores[told], axis=1))) if told.any() else 0.0,
        'tied': 100 * float(np.mean([_tied(row) for row in scores])),
        'nll': negative_log_likelihood(predictions),
        'nll_scaled': negative_log_likelihood(predictions, fit_temperature(predictions)),
    }


def _tied(row: np.ndarray) -> float:
    """The share of a row's pairs that are equal."""
    counts = np.unique(row, return_counts=True)[1]
    return float((counts * (counts - 1)).sum() / (len(row) * (len(row) - 1)))

"""What can be said of a classifier's predictions, beside how many are right.

Plain functions on arrays. Scores are log-probabilities (N, C), or logits, which differ from them
by a constant a row: each function normalises them itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from torch import Tensor

from mmkendall.functional import kendall_tau


@dataclass(frozen=True)
class Predictions:
    """What a classifier says of a dataset.

    Args:
        scores: (N, C), log-probabilities or logits.
        labels: (N,), the right classes.
        groups: (N,), which group of samples each is of (a writer, a font, a camera), for intervals
            over groups. Defaults to None, no groups.
    """

    scores: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None = None

    def __post_init__(self) -> None:
        samples = len(self.scores)
        for name in ('labels', 'groups'):
            array = getattr(self, name)
            if array is not None and array.shape != (samples,):
                raise ValueError(
                    f'{name} must have the shape ({samples},), one a row of scores, got '
                    f'{array.shape}'
                )

    @property
    def right(self) -> np.ndarray:
        """(N,), whether the class with the highest score is the label."""
        return self.scores.argmax(axis=1) == self.labels


def top_k(predictions: Predictions, k: int) -> float:
    """Percent of the samples whose label is among the k classes with the highest scores."""
    k = min(k, predictions.scores.shape[1])
    best = np.argpartition(-predictions.scores, k - 1, axis=1)[:, :k]
    return 100 * float((best == predictions.labels[:, None]).any(axis=1).mean())


def negative_log_likelihood(predictions: Predictions, temperature: float = 1.0) -> float:
    """Mean of minus the logarithm of the label's probability, in nats."""
    scores = predictions.scores.astype(np.float64) / temperature
    log_probabilities = log_softmax(scores, axis=1)
    return float(-log_probabilities[np.arange(len(scores)), predictions.labels].mean())


def calibration_error(predictions: Predictions, temperature: float = 1.0, bins: int = 15) -> float:
    """Expected calibration error in percent: of the highest probability, in bins of equal width.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3.
    """
    scores = predictions.scores.astype(np.float64) / temperature
    confidence = np.exp(log_softmax(scores, axis=1).max(axis=1))
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(place, weights=confidence - predictions.right, minlength=bins)
    return 100 * float(np.abs(gaps).sum() / len(confidence))


def fit_temperature(predictions: Predictions) -> float:
    """The temperature, 0.01 to 100, at which the likelihood of the labels is highest."""
    found = minimize_scalar(
        lambda log: negative_log_likelihood(predictions, float(np.exp(log))),
        bounds=(np.log(0.01), np.log(100)),
        method='bounded',
    )
    return float(np.exp(found.x))


def taus(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Kendall's tau-b of each row: over all classes, and over the teacher's lowest half.

    Args:
        student: scores (N, C).
        teacher: those of the other, (N, C).
    """
    lowest = teacher.argsort(dim=1)[:, : (teacher.shape[1] + 1) // 2]
    low = kendall_tau(student.gather(1, lowest), teacher.gather(1, lowest))
    return kendall_tau(student, teacher), low


def likeness(student: np.ndarray, teacher: np.ndarray) -> dict[str, float]:
    """How alike two classifiers are on the same samples.

    Args:
        student: scores (N, C).
        teacher: those of the other, (N, C); minus infinity is a class that is last.

    Returns:
        ``agreement``, percent of the samples with the same first class; ``top5_overlap``, percent
        of the teacher's first five classes that are among the student's; ``tau``, the mean of
        Kendall's tau-b over all classes; ``tau_low``, the same over the half of the classes that
        the teacher puts lowest. Samples where tau-b is undefined, as the teacher ties all classes,
        are left out.
    """
    k = min(5, student.shape[1])
    firsts = [np.argpartition(-scores, k - 1, axis=1)[:, :k] for scores in (student, teacher)]
    shared = (firsts[0][:, :, None] == firsts[1][:, None, :]).any(axis=2).mean()
    tau, tau_low = taus(
        *(torch.from_numpy(np.ascontiguousarray(each)) for each in (student, teacher))
    )
    return {
        'agreement': 100 * float((student.argmax(axis=1) == teacher.argmax(axis=1)).mean()),
        'top5_overlap': 100 * float(shared),
        'tau': float(tau.nanmean()),
        'tau_low': float(tau_low.nanmean()),
    }


def severity(predictions: Predictions, superclasses: np.ndarray) -> float:
    """Percent of the mistakes that stay within the superclass of the label; NaN without mistakes.

    Args:
        predictions: of the classifier.
        superclasses: (C,), the superclass of each class, such as the letter below an accent.
    """
    wrong = ~predictions.right
    found = predictions.scores[wrong].argmax(axis=1)
    if not len(found):
        return float('nan')
    alike = superclasses[found] == superclasses[predictions.labels[wrong]]
    return 100 * float(alike.mean())


def by_group(predictions: Predictions) -> dict[str, list]:
    """``groups``, their names; ``samples`` of each; ``right``, how many of them."""
    names, place = np.unique(predictions.groups, return_inverse=True)
    return {
        'groups': names.tolist(),
        'samples': np.bincount(place).tolist(),
        'right': np.bincount(place, weights=predictions.right).astype(int).tolist(),
    }


def measure(
    predictions: Predictions,
    validation: Predictions | None = None,
    teacher: np.ndarray | None = None,
    superclasses: np.ndarray | None = None,
    left_out: np.ndarray | None = None,
) -> dict[str, float]:
    """Everything above that the arguments allow.

    Args:
        predictions: what is measured.
        validation: predictions on other samples, on which the temperature of ``nll_scaled`` and
            ``ece_scaled`` is fitted. Defaults to None, without those.
        teacher: the teacher's scores of the same samples. Defaults to None, without likeness.
        superclasses: see :func:`severity`. Defaults to None, without it.
        left_out: numbers of the classes whose accuracy is told apart, as no image of them was
            trained on. Defaults to None, without it.

    Raises:
        ValueError: a score is NaN.
    """
    if np.isnan(predictions.scores).any():
        rows = int(np.isnan(predictions.scores).any(axis=1).sum())
        raise ValueError(f'scores must be numbers, and {rows} rows of {len(predictions.scores)} '
                         'hold NaN: the training diverged')  # fmt: skip
    found = {
        'top1': 100 * float(predictions.right.mean()),
        'top5': top_k(predictions, 5),
        'nll': negative_log_likelihood(predictions),
        'ece': calibration_error(predictions),
    }
    if validation is not None:
        temperature = fit_temperature(validation)
        found['temperature'] = temperature
        found['nll_scaled'] = negative_log_likelihood(predictions, temperature)
        found['ece_scaled'] = calibration_error(predictions, temperature)
    if teacher is not None:
        found.update(likeness(predictions.scores, teacher))
    if superclasses is not None:
        found['same_superclass'] = severity(predictions, superclasses)
    if left_out is not None and len(left_out):
        among = np.isin(predictions.labels, left_out)
        for name, chosen in (('top1_left_out', among), ('top1_shown', ~among)):
            if chosen.any():
                found[name] = 100 * float(predictions.right[chosen].mean())
    return found

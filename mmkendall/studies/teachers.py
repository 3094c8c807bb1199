"""What a teacher says, and what is done to it.

A change takes scores (N, C) and gives others; a head is fitted on a network's features and gives
scores that are no logits. ``by=dict(type=NAME, ...)`` of a study's teacher names one of
:data:`CHANGES`, :data:`HEADS` or ``ensemble``, or is a list of them, applied from left to right.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import rankdata

Scores = np.ndarray


def scale(scores: Scores, random: np.random.Generator, factor: float) -> Scores:
    """All scores times a factor: a teacher whose temperature is unknown."""
    return scores * factor


def power(scores: Scores, random: np.random.Generator, exponent: float = 3.0) -> Scores:
    """A monotone bend: each row's z-scores to a power, their sign kept, at the row's spread."""
    mean, deviation = scores.mean(1, keepdims=True), scores.std(1, keepdims=True)
    z = (scores - mean) / np.where(deviation > 0, deviation, 1)
    bent = np.sign(z) * np.abs(z) ** exponent
    spread = bent.std(1, keepdims=True)
    return bent * deviation / np.where(spread > 0, spread, 1)


def scale_per_sample(scores: Scores, random: np.random.Generator, sigma: float = 1.0) -> Scores:
    """Each row times a log-normal factor of its own."""
    return scores * np.exp(sigma * random.standard_normal((len(scores), 1)))


def outliers(
    scores: Scores, random: np.random.Generator, count: int = 5, size: float = 5.0
) -> Scores:
    """Some classes of each row are off by normal noise of ``size`` times the row's spread."""
    changed = scores.copy()
    for row in changed:
        wild = random.choice(len(row), count, replace=False)
        row[wild] += size * row.std() * random.standard_normal(count)
    return changed


def noise(scores: Scores, random: np.random.Generator, size: float = 0.5) -> Scores:
    """Normal noise of ``size`` times the row's spread on every score."""
    return scores + size * scores.std(1, keepdims=True) * random.standard_normal(scores.shape)


def quantise(scores: Scores, random: np.random.Generator, bits: int = 3) -> Scores:
    """Each row on 2**bits equal steps between its least and its greatest score."""
    low, high = scores.min(1, keepdims=True), scores.max(1, keepdims=True)
    step = np.where(high > low, high - low, 1) / (2**bits - 1)
    return low + step * np.round((scores - low) / step)


def order(scores: Scores, random: np.random.Generator) -> Scores:
    """The order alone: 0 for the last class, 1 more for each that is better, ties averaged."""
    return rankdata(scores, axis=1) - 1


def top(scores: Scores, random: np.random.Generator, k: int = 5) -> Scores:
    """The k highest scores of each row; the other classes are minus infinity."""
    least = np.partition(scores, -k, axis=1)[:, -k, None]
    return np.where(scores >= least, scores, -np.inf)


CHANGES: dict[str, Callable[..., Scores]] = {
    each.__name__: each
    for each in (scale, power, scale_per_sample, outliers, noise, quantise, order, top)
}


def cosine(features: np.ndarray, labels: np.ndarray, classes: int) -> Callable:
    """Cosines to the mean direction of each class, as of an image-text model."""

    def directions(each: np.ndarray) -> np.ndarray:
        return each / np.maximum(np.linalg.norm(each, axis=1, keepdims=True), 1e-12)

    means = directions(_class_means(directions(features), labels, classes))
    return lambda new: directions(new) @ means.T


def prototypes(features: np.ndarray, labels: np.ndarray, classes: int) -> Callable:
    """Minus the Euclidean distance to the mean of each class."""
    means = _class_means(features, labels, classes)
    squares = (means**2).sum(1)

    def scores(new: np.ndarray) -> Scores:
        squared = (new**2).sum(1, keepdims=True) - 2 * new @ means.T + squares
        return -np.sqrt(np.maximum(squared, 0))

    return scores


def svc(features: np.ndarray, labels: np.ndarray, classes: int) -> Callable:
    """The margins of a linear support vector machine, one class against the rest."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    machine = make_pipeline(StandardScaler(), LinearSVC(C=0.01, random_state=0))
    machine.fit(features, labels)
    return _of_classes(machine.decision_function, machine.classes_, classes)


def forest(features: np.ndarray, labels: np.ndarray, classes: int, trees: int = 100) -> Callable:
    """The shares of the votes of a random forest, most of which are 0."""
    from sklearn.ensemble import RandomForestClassifier

    grown = RandomForestClassifier(trees, random_state=0).fit(features, labels)
    return _of_classes(grown.predict_proba, grown.classes_, classes, absent=0.0)


HEADS: dict[str, Callable[..., Callable]] = {
    each.__name__: each for each in (cosine, prototypes, svc, forest)
}


def _class_means(features: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    sums = np.zeros((classes, features.shape[1]))
    np.add.at(sums, labels, features)
    return sums / np.maximum(np.bincount(labels, minlength=classes), 1)[:, None]


def _of_classes(
    scores: Callable, known: np.ndarray, classes: int, absent: float = -np.inf
) -> Callable:
    """Scores of all classes from those of the ones that had samples."""

    def all_scores(new: np.ndarray) -> Scores:
        whole = np.full((len(new), classes), absent)
        whole[:, known] = scores(new)
        return whole

    return all_scores


def steps_of(by: dict | Sequence[dict]) -> list[dict]:
    """What is done to a teacher, as a list.

    Raises:
        ValueError: a step is unknown, or stands where it cannot.
    """
    steps = [dict(step) for step in ([by] if isinstance(by, dict) else by)]
    kinds = [step.get('type') for step in steps]
    known = [*CHANGES, *HEADS, 'ensemble']
    for place, kind in enumerate(kinds):
        if kind not in known:
            raise ValueError(f'type must be one of {", ".join(known)}, got {kind!r}')
        if place and kind not in CHANGES:
            raise ValueError(f'{kind!r} makes scores of teachers, so it must come first')
        function = {**CHANGES, **HEADS, 'ensemble': ensemble}[kind]
        options = {name: value for name, value in steps[place].items() if name != 'type'}
        # What comes from the data is left to whoever calls it.
        given = {'ensemble': 1}.get(kind, 3 if kind in HEADS else 2)
        try:
            inspect.signature(function).bind(*range(given), **options)
        except TypeError as error:
            raise ValueError(f'{kind!r}: {error}') from error
    return steps


def apply_changes(scores: Scores, steps: Sequence[dict], seed: Sequence[int]) -> Scores:
    """Scores after some of :data:`CHANGES`, float32; the same seed gives the same."""
    random = np.random.default_rng(seed)
    values = scores.astype(np.float64)
    for step in steps:
        options = {name: value for name, value in step.items() if name != 'type'}
        values = CHANGES[step['type']](values, random, **options)
    return values.astype(np.float32)


def ensemble(members: Sequence[Scores], scales: Sequence[float] | None = None) -> Scores:
    """The mean of several teachers' scores, each times a scale of its own."""
    scales = np.ones(len(members)) if scales is None else scales
    return np.mean([one * factor for one, factor in zip(members, scales, strict=True)], axis=0)


def out_of_fold(
    head: Callable[..., Callable],
    features: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    classes: int,
    folds: int = 3,
    limit: int = 8000,
) -> tuple[Scores, Callable]:
    """Scores of the samples that a head is fitted on, each by a head that did not see its group.

    Args:
        head: one of :data:`HEADS`.
        features: (N, F).
        labels: (N,).
        groups: (N,); samples of a group, such as the views of an image, are in one fold.
        classes: how many there are.
        folds: how many heads.
        limit: how many samples, the first, a head is fitted on at most.

    Returns:
        The scores (N, C), and a head that is fitted on all groups, for others.
    """
    from sklearn.model_selection import GroupKFold

    scores = np.empty((len(features), classes))
    for fitted, held in GroupKFold(folds).split(features, labels, groups):
        chosen = fitted[:limit]
        scores[held] = head(features[chosen], labels[chosen], classes)(features[held])
    return scores, head(features[:limit], labels[:limit], classes)

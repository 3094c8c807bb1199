"""Write what a teacher that is no network says of the digits' training images, as a table.

    python tools/dataset_converters/digits_scores.py svm work_dirs/digits_svm/scores.csv
    python tools/dataset_converters/digits_scores.py forest work_dirs/digits_forest/votes.csv
    python tools/dataset_converters/digits_scores.py cosine work_dirs/digits_cosine/cosines.csv
    python tools/dataset_converters/digits_scores.py prototype work_dirs/digits_prototype/table.csv

The table is for scores_to_teacher_logits.py. ``svm`` gives the margins of one support vector
machine a class, ``forest`` how many of 200 decision trees vote for a class, ``cosine`` the cosines
between an image and the mean of each class, ``prototype`` the distance to the nearest of each
class's eight prototypes, the centres of k-means. Each image is scored
by a model that was fitted without it, on the other four fifths: of its own training images a
forest knows the labels by heart.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Callable
from pathlib import Path

from mmkendall import compat

compat.apply()

import numpy as np  # noqa: E402

from mmkendall.datasets import Digits  # noqa: E402
from mmkendall.whole_files import write_atomically  # noqa: E402

CLASSES = Digits.METAINFO['classes']
FOLDS = 5
TREES = 200
PROTOTYPES = 8


def svm_margins(images: np.ndarray, labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Of images that were not fitted, the margin to each class's own hyperplane: (n, 10)."""
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.svm import SVC

    return OneVsRestClassifier(SVC(C=10.0)).fit(images, labels).decision_function(others)


def forest_votes(images: np.ndarray, labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Of images that were not fitted, how many trees vote for each class: (n, 10)."""
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(TREES, random_state=0).fit(images, labels)
    votes = np.zeros((len(others), len(CLASSES)), dtype=int)
    for tree in forest.estimators_:
        votes[np.arange(len(others)), tree.predict(others).astype(int)] += 1
    return votes


def class_cosines(images: np.ndarray, labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Of images that were not fitted, the cosine to the mean of each class: (n, 10)."""
    means = np.stack([images[labels == label].mean(axis=0) for label in range(len(CLASSES))])
    means, others = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (means, others))
    return others @ means.T


def prototype_distances(images: np.ndarray, labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Of images that were not fitted, the distance to each class's nearest prototype: (n, 10)."""
    from sklearn.cluster import KMeans

    distances = []
    for label in range(len(CLASSES)):
        clusters = KMeans(PROTOTYPES, n_init=1, random_state=0).fit(images[labels == label])
        distances.append(clusters.transform(others).min(axis=1))
    return np.stack(distances, axis=1)


TEACHERS = {
    'svm': svm_margins,
    'forest': forest_votes,
    'cosine': class_cosines,
    'prototype': prototype_distances,
}
# Of which the lowest number is the best.
LOW_IS_BEST = ('prototype',)


def out_of_fold(score: Callable, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The scores of every image by a model that has not seen it: (N, 10)."""
    from sklearn.model_selection import StratifiedKFold

    parts = []
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    for fitted, held in folds.split(images, labels):
        parts.append((held, score(images[fitted], labels[fitted], images[held])))
    scores = np.empty((len(images), len(CLASSES)), dtype=parts[0][1].dtype)
    for held, part in parts:
        scores[held] = part
    return scores


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('teacher', choices=sorted(TEACHERS))
    parser.add_argument('file', type=Path, help='the .csv to write')
    args = parser.parse_args()
    if args.file.suffix.lower() != '.csv':
        parser.error(f'{args.file} must end with .csv')
    try:
        samples = Digits('train', lazy_init=True).load_data_list()
        images = np.stack([sample['img'] for sample in samples]).reshape(len(samples), -1)
        labels = np.array([sample['gt_label'] for sample in samples])
        scores = out_of_fold(TEACHERS[args.teacher], images.astype(float), labels)
        text = io.StringIO()
        table = csv.writer(text, lineterminator='\n')
        table.writerow(['id', *CLASSES])
        table.writerows([index, *row] for index, row in enumerate(scores.tolist()))
        args.file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(str(args.file), text.getvalue().encode())
    except (ImportError, OSError) as error:
        print(f'digits_scores.py: error: {error}', file=sys.stderr)
        return 2
    is_low = args.teacher in LOW_IS_BEST
    right = ((-scores if is_low else scores).argmax(axis=1) == labels).mean()
    best = 'lowest' if is_low else 'highest'
    print(f'{args.file}: {len(scores)} images, the {best} class is the label of {right:.1%}')
    return 0


if __name__ == '__main__':
    sys.exit(main())

from __future__ import annotations

from typing import ClassVar

import numpy as np

from mmkendall.registry import DATASETS

try:  # Hooks of mmpretrain ask for a dataset of its own kind.
    from mmpretrain.datasets import BaseDataset
except ImportError:
    from mmengine.dataset import BaseDataset

# Of 1,797 images; chosen once, so that every run and every seed sees the same split.
NUM_TEST = 500
SPLIT_SEED = 0


@DATASETS.register_module()
class Digits(BaseDataset):
    """Scikit-learn's handwritten digits: 1,797 grey images of 8x8, ten classes, no download.

    Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
    Repository, the test part, as shipped with scikit-learn.

    Args:
        split: ``'train'`` (1,297 images) or ``'test'`` (500). The split is fixed and stratified.
        pipeline: transforms; they get ``img``, uint8 (8, 8, 1) with values 0 to 255, and
            ``gt_label``, int.
        **kwargs: passed to mmpretrain's ``BaseDataset``.

    Raises:
        ValueError: an unknown split.
        ImportError: scikit-learn is missing.
    """

    METAINFO: ClassVar[dict] = {'classes': tuple('0123456789')}

    def __init__(self, split: str, pipeline: list = (), **kwargs) -> None:
        if split not in ('train', 'test'):
            raise ValueError(f"split must be 'train' or 'test', got {split!r}")
        self.split = split
        super().__init__(ann_file='', pipeline=pipeline, **kwargs)

    def load_data_list(self) -> list[dict]:
        """One dict per image: ``img`` and ``gt_label``."""
        try:
            from sklearn.datasets import load_digits
            from sklearn.model_selection import train_test_split
        except ImportError as error:
            raise ImportError(
                'the Digits dataset needs scikit-learn: pip install scikit-learn'
            ) from error
        digits = load_digits()
        indices = train_test_split(
            np.arange(len(digits.target)),
            test_size=NUM_TEST,
            stratify=digits.target,
            random_state=SPLIT_SEED,
        )
        # Scikit-learn's pixels run from 0 to 16.
        images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
        return [
            {'img': images[index], 'gt_label': int(digits.target[index])}
            for index in indices[self.split == 'test']
        ]

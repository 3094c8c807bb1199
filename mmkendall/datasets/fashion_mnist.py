from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from mmkendall.datasets.in_memory import InMemory, Source
from mmkendall.registry import DATASETS

CLASSES = (
    'T-shirt/top', 'Trouser', 'Pullover', 'Dress', 'Coat', 'Sandal', 'Shirt', 'Sneaker', 'Bag',
    'Ankle boot',
)  # fmt: skip
# Of 60,000 training images; chosen once, so that every run and every seed sees the same split.
NUM_VAL = 10000
SPLIT_SEED = 0
# Images of 28x28 get a border, so that they fit a network for 32x32.
BORDER = 2


@DATASETS.register_module()
class FashionMNIST(InMemory):
    """Fashion-MNIST: 70,000 grey images of clothes in ten classes, with a split for validation.

    mmpretrain's class of this name downloads, unpacks, and has no validation images. This one
    reads what Debian's package ``dataset-fashion-mnist`` installs, or any folder with the same
    four files, unpacked or not. Images are given a border of two pixels, to 32x32.

    Source: Xiao, Rasul and Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking
    Machine Learning Algorithms", 2017.

    Args:
        data_root: the folder.
        split: ``'train'`` (50,000 images), ``'val'`` (10,000 of the training images, fixed and
            stratified) or ``'test'`` (10,000).
        **options: see :class:`~mmkendall.datasets.in_memory.InMemory`. Images share no face, so
            ``num_faces`` is how many images there are.

    Raises:
        ValueError: an unknown split, or an option out of range.
        FileNotFoundError: a file is missing.
        ValueError: a file is not what it should be.
    """

    def __init__(self, data_root: str, split: str, **options) -> None:
        if split not in ('train', 'val', 'test'):
            raise ValueError(f"split must be 'train', 'val' or 'test', got {split!r}")
        self.data_root = str(data_root)
        self.split = split
        super().__init__(**options)

    def load(self) -> Source:
        """Reads the images and labels of the split."""
        part, number = ('t10k', 10000) if self.split == 'test' else ('train', 60000)
        folder = Path(self.data_root)
        images = read_idx(folder / f'{part}-images-idx3-ubyte', (number, 28, 28))
        labels = read_idx(folder / f'{part}-labels-idx1-ubyte', (number,)).astype(np.int64)
        if labels.max() >= len(CLASSES):
            raise ValueError(
                f'data_root {self.data_root!r}: labels must be 0 to 9, got {labels.max()}'
            )
        if self.split != 'test':
            chosen = _validation(labels) == (self.split == 'val')
            images, labels = images[chosen], labels[chosen]
        images = np.pad(images, ((0, 0), (BORDER, BORDER), (BORDER, BORDER)))
        numbers = np.arange(len(labels))
        return Source(images[:, None], labels, numbers, numbers, CLASSES, seed=0)

    def all_rows(self) -> FashionMNIST:
        """The split without options, labelled."""
        return FashionMNIST(self.data_root, self.split)


def _validation(labels: np.ndarray) -> np.ndarray:
    """Which images are held out: as many of each class, drawn once."""
    generator = np.random.default_rng(SPLIT_SEED)
    held_out = np.zeros(len(labels), bool)
    for label in range(len(CLASSES)):
        index = generator.permutation(np.flatnonzero(labels == label))
        held_out[index[: NUM_VAL // len(CLASSES)]] = True
    return held_out


def read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The bytes of a file in MNIST's format, which may be packed, with ``.gz`` behind its name.

    Raises:
        FileNotFoundError: there is neither.
        ValueError: it holds something else than bytes of this shape.
    """
    packed = path.with_name(f'{path.name}.gz')
    try:
        data = path.read_bytes() if path.is_file() else gzip.decompress(packed.read_bytes())
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f'data_root {str(path.parent)!r} must hold {path.name} or {packed.name}: on Debian, '
            'apt-get install dataset-fashion-mnist puts it into /usr/share/datasets/fashion-mnist'
        ) from error
    except (OSError, EOFError) as error:
        raise ValueError(f"{packed} can't be unpacked: {error}") from error
    # Two zeros, 8 for bytes, the number of dimensions, and each of them in four bytes.
    head = bytes((0, 0, 8, len(shape))) + np.array(shape, '>i4').tobytes()
    if data[: len(head)] != head or len(data) != len(head) + np.prod(shape):
        raise ValueError(
            f'{path} must hold bytes of shape {shape} in the format of MNIST, got other content'
        )
    return np.frombuffer(data, np.uint8, offset=len(head)).reshape(shape)

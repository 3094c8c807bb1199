from __future__ import annotations

from pathlib import Path

import numpy as np

from mmkendall.datasets.glyphs import SPLITS, GlyphsError, faces_of, read_meta, read_split
from mmkendall.datasets.in_memory import InMemory, Source
from mmkendall.registry import DATASETS


@DATASETS.register_module()
class Glyphs(InMemory):
    """Letters, kanji or other glyphs that ``tools/dataset_converters/letters.py`` drew.

    Args:
        data_root: the folder that it wrote.
        split: ``'train'``, ``'val'`` or ``'test'``, of which no two share a face or a look-alike
            of one; or ``'transfer_train'`` or ``'transfer_test'``, other classes in the faces of
            ``'train'`` and ``'test'``.
        **options: see :class:`~mmkendall.datasets.in_memory.InMemory`.

    Attributes:
        metainfo: ``classes``, and as ``superclasses`` the base of each class.
        meta: what ``meta.json`` says: the faces of each split, and the base and the diacritic of
            each class in ``parts``.

    Raises:
        GlyphsError: a ValueError; the folder holds no such split, or it is damaged.
        ValueError: an option out of range.

    Example::

        dataset=dict(
            type='mmkendall.Glyphs', data_root='data/letters', split='train', wrong_labels=0.4)
    """

    def __init__(self, data_root: str, split: str, **options) -> None:
        if split not in SPLITS:
            raise ValueError(f'split must be one of {", ".join(SPLITS)}, got {split!r}')
        self.data_root = str(data_root)
        self.split = split
        super().__init__(**options)
        parts = self.meta['parts']
        bases = [parts[name][0] if name in parts else name for name in self.metainfo['classes']]
        self.metainfo['superclasses'] = tuple(bases)

    def load(self) -> Source:
        """Reads the images, and compares them with their checksum."""
        folder = Path(self.data_root)
        self.meta = read_meta(folder)
        classes = self.meta['transfer_classes' if 'transfer' in self.split else 'classes']
        if not classes:
            raise GlyphsError(
                f'split must be train, val or test, got {self.split!r}: {self.data_root!r} was '
                'made without classes for transfer'
            )
        images = read_split(folder, self.meta, self.split)
        number, count = images.shape[:2]
        groups = [face['group'] for face in self.meta['faces'][faces_of(self.split)]]
        return Source(
            images=images.reshape(-1, *images.shape[2:]),
            labels=np.tile(np.arange(count), number),
            groups=np.repeat(np.array(groups), count),
            faces=np.repeat(np.arange(number), count),
            classes=tuple(classes),
            seed=self.meta['options']['seed'],
        )

    def all_rows(self) -> Glyphs:
        """The split without options, labelled."""
        return Glyphs(self.data_root, self.split)

from __future__ import annotations

import numpy as np
import pytest

from mmkendall.datasets.glyphs import kanji, letters, write_folder


@pytest.fixture(scope='session')
def in_memory(tmp_path_factory) -> str:
    """Noise in the files of the letters and of the kanji, eight faces for each split."""
    folder = tmp_path_factory.mktemp('glyphs')
    rng = np.random.default_rng(0)
    for name, classes in (('letters', letters()), ('kanji', kanji())):
        faces = {
            split: [dict(group=group) for group in range(8)] for split in ('train', 'val', 'test')
        }
        arrays = {
            split: rng.integers(0, 255, (8, len(classes), 1, 32, 32), dtype=np.uint8)
            for split in faces
        }
        meta = dict(
            classes=classes, transfer_classes=[], faces=faces, options=dict(seed=0), parts={}
        )
        write_folder(folder / name, arrays, meta)
    return str(folder)

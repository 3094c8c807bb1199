"""Write scikit-learn's handwritten digits as a small folder of images, one folder a class.

    python tools/dataset_converters/digits_folder.py data/folder

makes ``data/folder/train/0/0000.png`` and so on: 1,297 images to train and 500 to validate, ten
classes, 32x32, the split of mmkendall.Digits. Nothing is downloaded. It is the example of
docs/own_config.md; a folder of your own has the same form.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mmkendall import compat

compat.apply()

import cv2  # noqa: E402

from mmkendall.datasets import Digits  # noqa: E402

SIDE = 32


def write_images(folder: Path, part: str, split: str, per_class: int | None) -> int:
    """Writes the images of a split, at most ``per_class`` of each class, and returns how many."""
    written = dict.fromkeys(Digits.METAINFO['classes'], 0)
    for sample in Digits(split, lazy_init=True).load_data_list():
        name = Digits.METAINFO['classes'][sample['gt_label']]
        if per_class is not None and written[name] >= per_class:
            continue
        path = folder / part / name / f'{written[name]:04}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        image = cv2.resize(sample['img'], (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(path), image)
        written[name] += 1
    return sum(written.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('folder', type=Path, help='to write; it must not exist yet, or be empty')
    parser.add_argument(
        '--per-class', type=int, metavar='N', help='at most N images of each class'
    )
    args = parser.parse_args()
    if args.per_class is not None and args.per_class < 1:
        parser.error(f'--per-class must be 1 at least, got {args.per_class}')
    if args.folder.exists() and (not args.folder.is_dir() or any(args.folder.iterdir())):
        parser.error(f'{args.folder} is there already and is not an empty folder')
    try:
        for part, split in (('train', 'train'), ('val', 'test')):
            number = write_images(args.folder, part, split, args.per_class)
            print(f'{args.folder / part}: {number} images, one folder for each class')
    except (ImportError, OSError) as error:
        print(f'digits_folder.py: error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())

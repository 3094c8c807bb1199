"""Draw a data set of glyphs from installed fonts: nothing is downloaded.

    python tools/dataset_converters/letters.py data/letters
    python tools/dataset_converters/letters.py data/kanji --classes kanji
    python tools/dataset_converters/letters.py data/own --classes FILE --fonts FOLDER

Images are 32x32, white on black. ``letters`` are the 119 lower-case letters of Latin up to Latin
Extended-A, with the capitals A to Z for transfer; ``kanji`` the first 500 of JIS level 1, with the
next 100. FILE has a character or a string a line. A face that lacks a glyph is left out and
listed. Faces that look alike are in one group, and no group is in two of train, val and test. The
same fonts, options and versions give the same bytes, of which a checksum is printed: on a Debian
those of the packages that fonts_letters.txt or fonts_kanji.txt names are taken, whatever else is
installed. sheet.png shows some of it.

docs/letters.md says more.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from mmkendall import compat

compat.apply()

import numpy as np  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import track  # noqa: E402

from mmkendall.datasets.glyphs import (  # noqa: E402
    GlyphsError,
    capitals,
    find_faces,
    kanji,
    letters,
    make_glyphs,
    read_classes,
    write_folder,
)
from mmkendall.datasets.glyphs.classes import NUM_KANJI, NUM_KANJI_TO_TRANSFER  # noqa: E402
from mmkendall.datasets.glyphs.faces import SUFFIXES, SYSTEM_FONTS  # noqa: E402

HERE = Path(__file__).parent
# Fewer faces than this make a teacher that is worse than its student.
LEAST = {'letters': 120, 'kanji': 30}
SHEET_ROWS, SHEET_COLUMNS = 4, 24


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('folder', type=Path, help='to write')
    parser.add_argument(
        '--classes', default='letters', metavar='letters|kanji|FILE', help='default: letters'
    )
    parser.add_argument(
        '--transfer-classes', metavar='FILE', help='classes for transfer, beside --classes FILE'
    )
    parser.add_argument(
        '--fonts',
        nargs='+',
        metavar='FOLDER',
        help="default: of the packages in the list beside this file, else the system's fonts",
    )
    parser.add_argument(
        '--least',
        type=int,
        metavar='N',
        help='faces that must be left; default: 120 for letters, 30 for kanji, 3 for a file',
    )
    numbers = {
        'views': (4, 1, 'jittered views of each image to train on'),
        'seed': (0, 0, 'of the jitter'),
        'split-seed': (0, 0, 'of which faces are for training, validation and test'),
        'per-group': (3, 1, 'faces to take of each group of look-alikes'),
    }
    for name, (default, _, what) in numbers.items():
        parser.add_argument(
            f'--{name}', type=int, default=default, metavar='N', help=f'{what}; default: {default}'
        )
    parser.add_argument(
        '--above',
        type=float,
        default=0.97,
        metavar='R',
        help='correlation of glyphs from which faces look alike; default: 0.97',
    )
    args = parser.parse_args()
    for name, (_, least, _) in numbers.items():
        value = getattr(args, name.replace('-', '_'))
        if value < least:
            parser.error(f'--{name} must be {least} or more, got {value}')
    if not 0 < args.above <= 1:
        parser.error(f'--above must be above 0 and at most 1, got {args.above}')
    if args.transfer_classes and args.classes in LEAST:
        parser.error(f'--transfer-classes goes with --classes FILE, got {args.classes}')
    return args


def chosen_classes(args: argparse.Namespace) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The classes, and those for transfer."""
    if args.classes == 'letters':
        return letters(), capitals()
    if args.classes == 'kanji':
        return kanji(), kanji(NUM_KANJI, NUM_KANJI_TO_TRANSFER)
    transfer = read_classes(args.transfer_classes) if args.transfer_classes else ()
    classes = read_classes(args.classes)
    both = sorted({*classes} & {*transfer})
    if both:
        raise GlyphsError(
            f'--transfer-classes must be classes that --classes has not, got {", ".join(both)}'
        )
    return classes, transfer


def listed_fonts(listed: Path) -> list[Path] | tuple[str, ...]:
    """The font files of the packages that a file lists; all of the system without Debian's tools.

    Raises:
        GlyphsError: a package is not installed. Fewer fonts, or more, would draw other data.
    """
    if shutil.which('dpkg-query') is None:
        return SYSTEM_FONTS
    packages = listed.read_text().split()

    def ask(*question: str) -> list[str]:
        command = ['dpkg-query', *question, *packages]
        return subprocess.run(
            command, capture_output=True, text=True, check=False
        ).stdout.splitlines()

    states = (line.split() for line in ask('-W', '-f', '${Package} ${db:Status-Status}\n'))
    installed = {name for name, *state in states if state == ['installed']}
    missing = [package for package in packages if package not in installed]
    if missing:
        raise GlyphsError(
            f'fonts of {len(packages)} packages make this data, and {len(missing)} of them are '
            f'not installed, {missing[0]} the first (--fonts /usr/share/fonts takes whatever is '
            'there)'
        )
    return [path for path in map(Path, ask('-L')) if path.suffix.lower() in SUFFIXES]


def more_fonts(classes: str) -> str:
    """What installs enough fonts on Debian."""
    if classes not in LEAST:
        return 'install more fonts, or name their folders with --fonts'
    return (
        'on Debian, as root: apt-get install --no-install-recommends '
        f'$(cat {HERE / f"fonts_{classes}.txt"})'
    )


def write_sheet(arrays: dict[str, np.ndarray], path: Path) -> None:
    """A picture of some classes of some faces of each split, all views below each other."""
    from PIL import Image

    blocks = []
    for images in arrays.values():
        faces, classes, _ = images.shape[:3]
        rows = np.linspace(0, faces - 1, min(faces, SHEET_ROWS)).astype(int)
        columns = np.linspace(0, classes - 1, min(classes, SHEET_COLUMNS)).astype(int)
        some = images[rows][:, columns, :2]
        block = some.transpose(0, 2, 3, 1, 4).reshape(-1, len(columns) * images.shape[-1])
        block = np.pad(block, ((0, 0), (0, SHEET_COLUMNS * images.shape[-1] - block.shape[1])))
        blocks += [block, np.full((4, block.shape[1]), 128, np.uint8)]
    Image.fromarray(np.concatenate(blocks[:-1])).save(path, optimize=True)


def main() -> int:
    args = parse_args()
    console = Console(stderr=True)
    try:
        classes, transfer_classes = chosen_classes(args)
        fonts = args.fonts
        if fonts is None and args.classes in LEAST:
            fonts = listed_fonts(HERE / f'fonts_{args.classes}.txt')
        faces, unread = find_faces(fonts or SYSTEM_FONTS)
        arrays, meta = make_glyphs(
            faces,
            classes,
            transfer_classes,
            num_views=args.views,
            seed=args.seed,
            split_seed=args.split_seed,
            above=args.above,
            per_group=args.per_group,
            progress=lambda some: track(some, 'faces', console=console, transient=True),
        )
        number = sum(map(len, meta['faces'].values()))
        least = LEAST.get(args.classes, 3) if args.least is None else args.least
        if number < least:
            raise GlyphsError(f'fonts must give {least} faces (--least), got {number}')
        meta['left_out'] = {**unread, **meta['left_out']}
        meta['versions'] = {name: version(name) for name in ('pillow', 'fonttools', 'numpy')}
        whole = write_folder(args.folder, arrays, meta)
        write_sheet(arrays, args.folder / 'sheet.png')
    except GlyphsError as error:
        print(f'letters.py: error: {error}; {more_fonts(args.classes)}', file=sys.stderr)
        return 2
    except (ImportError, OSError) as error:
        print(f'letters.py: error: {error}', file=sys.stderr)
        return 2
    for name, reason in meta['left_out'].items():
        print(f'left out: {name}: {reason}')
    for part, drawn in meta['faces'].items():
        groups = len({face['group'] for face in drawn})
        print(f'{part}: {len(drawn)} faces of {groups} groups')
    for name, images in arrays.items():
        print(f'{args.folder / name}.npy: {" x ".join(map(str, images.shape))}')
    print(f'{len(classes)} classes, {len(transfer_classes)} for transfer; SHA-256 {whole}')
    return 0


if __name__ == '__main__':
    sys.exit(main())

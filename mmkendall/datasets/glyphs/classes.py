"""Which characters are the classes of a data set of glyphs, and what a class consists of."""

from __future__ import annotations

import unicodedata
from pathlib import Path


class GlyphsError(ValueError):
    """Glyphs that cannot be drawn or read as they were asked for."""


# The last code point of the block Latin Extended-A.
LATIN_END = 0x17F
NUM_KANJI = 500
NUM_KANJI_TO_TRANSFER = 100


def letters() -> tuple[str, ...]:
    """The 119 lower-case letters of Basic Latin, Latin-1 and Latin Extended-A.

    Five of Unicode's category Ll are left out, those that stand for other characters by a
    compatibility decomposition: the micro sign, ĳ, ŀ, ŉ and the long s.
    """
    characters = map(chr, range(LATIN_END + 1))
    return tuple(
        each
        for each in characters
        if unicodedata.category(each) == 'Ll' and unicodedata.normalize('NFKC', each) == each
    )


def capitals() -> tuple[str, ...]:
    """A to Z, which no training on :func:`letters` sees."""
    return tuple('ABCDEFGHIJKLMNOPQRSTUVWXYZ')


def kanji(first: int = 0, number: int = NUM_KANJI) -> tuple[str, ...]:
    """Characters of JIS X 0208, level 1, in the order of the standard.

    Args:
        first: how many to pass over. Defaults to 0.
        number: how many to take. Defaults to 500.

    Raises:
        GlyphsError: level 1 has no more than 2,965.
    """
    # Level 1 is rows 16 to 47 of 94 places, the last row with 51; EUC-JP adds 0xA0 to both.
    codes = [bytes((0xA0 + row, 0xA0 + place)) for row in range(16, 48) for place in range(1, 95)]
    level = [code.decode('euc_jp') for code in codes[: 31 * 94 + 51]]
    if not 0 <= first < first + number <= len(level):
        raise GlyphsError(
            f'kanji must be within the {len(level)} characters of JIS level 1, '
            f'got {first} to {first + number}'
        )
    return tuple(level[first : first + number])


def read_classes(file: str | Path) -> tuple[str, ...]:
    """The classes of a text file in UTF-8, a character or a string a line.

    Raises:
        GlyphsError: it cannot be read, has fewer than two lines, or a line twice.
    """
    try:
        lines = Path(file).read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise GlyphsError(f"classes {str(file)!r} can't be read as UTF-8: {error}") from error
    found = tuple(line.strip() for line in lines if line.strip())
    twice = sorted({name for name in found if found.count(name) > 1})
    if len(found) < 2 or twice:
        raise GlyphsError(
            f'classes {str(file)!r} must hold two lines at least, each once, got {len(found)}'
            + (f' with {", ".join(twice)} twice' if twice else '')
        )
    return found


def parts(name: str) -> tuple[str, str]:
    """The base of a class and the names of its diacritics, '' if there are none.

    A diacritic is a combining mark of the canonical decomposition, so the stroke of ø is none: ø
    is a base of its own.
    """
    base, *marks = unicodedata.normalize('NFD', name)
    if not all(map(unicodedata.combining, marks)):
        return name, ''  # A string of several characters.
    return base, '+'.join(
        unicodedata.name(mark).removeprefix('COMBINING ').lower() for mark in marks
    )

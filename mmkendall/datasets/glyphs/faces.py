"""Font faces: where they are found, and which of them can draw all that is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmkendall.datasets.glyphs.classes import GlyphsError

# Where Linux keeps fonts for everybody.
SYSTEM_FONTS = ('/usr/share/fonts', '/usr/local/share/fonts')
SUFFIXES = ('.ttf', '.otf', '.ttc', '.otc')
NEEDS = "drawing glyphs needs Pillow and fontTools: pip install 'pillow>=10.1' 'fonttools>=4.38'"


@dataclass(frozen=True)
class Face:
    """One face of a font file.

    Args:
        path: the file.
        number: of the face within a collection, 0 elsewhere.
        family: its family's name, such as ``DejaVu Sans Mono``.
        style: such as ``Bold Oblique``.
        characters: the code points that it has glyphs for.
    """

    path: Path
    number: int
    family: str
    style: str
    characters: frozenset[int]

    @property
    def name(self) -> str:
        """The family and the style."""
        return f'{self.family} {self.style}'

    @property
    def key(self) -> tuple[str, str, int]:
        """What faces are sorted by; it does not depend on where the fonts are installed."""
        return self.name, self.path.name, self.number

    def lacks(self, texts: Iterable[str]) -> str:
        """The characters of some texts that it has no glyph for."""
        wanted = dict.fromkeys(character for text in texts for character in text)
        return ''.join(each for each in wanted if ord(each) not in self.characters)


def find_faces(fonts: Sequence[str | Path] = SYSTEM_FONTS) -> tuple[list[Face], dict[str, str]]:
    """The outline faces of some font files, and of all in some folders and below, sorted by name.

    Args:
        fonts: files and folders of fonts. Defaults to those of the system.

    Returns:
        The faces, and for each file that cannot be read the reason.

    Raises:
        GlyphsError: one that is neither; none of the system's is there.
        ImportError: Pillow or fontTools is missing.
    """
    fonts = [Path(font) for font in fonts]
    wrong = [str(font) for font in fonts if not (font.is_dir() or _is_font(font))]
    if wrong and (tuple(map(str, fonts)) != SYSTEM_FONTS or len(wrong) == len(fonts)):
        names = ', '.join(wrong)
        raise GlyphsError(f'fonts must be folders or font files, and {names} is neither')
    faces, unread = [], {}
    for font in fonts:
        for path in sorted(font.rglob('*')) if font.is_dir() else [font]:
            if _is_font(path):
                try:
                    faces.extend(_read(path))
                except Exception as error:  # fontTools raises what its tables happen to raise.
                    unread[path.name] = f"can't be read: {type(error).__name__}: {error}"
    return sorted(faces, key=lambda face: face.key), unread


def _is_font(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _read(path: Path) -> Iterator[Face]:
    try:
        from fontTools.ttLib import TTCollection, TTFont
    except ImportError as error:
        raise ImportError(NEEDS) from error
    collection = path.suffix.lower() in ('.ttc', '.otc')
    with (TTCollection if collection else TTFont)(path, lazy=True) as opened:
        for number, font in enumerate(opened.fonts if collection else [opened]):
            if not {'glyf', 'CFF ', 'CFF2'} & set(font.keys()):
                raise GlyphsError('it has no outlines')
            # The typographic names first: the others call each weight a family.
            family, style = (
                next(filter(None, map(font['name'].getDebugName, identifiers)), path.stem)
                for identifiers in ((16, 1), (17, 2))
            )
            characters = frozenset(font.getBestCmap() or ())
            yield Face(path, number, family, style, characters)

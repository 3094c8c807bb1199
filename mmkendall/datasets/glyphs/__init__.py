"""Data sets of glyphs that are drawn from fonts: which characters, which faces, what files."""

from mmkendall.datasets.glyphs.classes import (
    GlyphsError,
    capitals,
    kanji,
    letters,
    parts,
    read_classes,
)
from mmkendall.datasets.glyphs.faces import Face, find_faces
from mmkendall.datasets.glyphs.files import SPLITS, faces_of, read_meta, read_split, write_folder
from mmkendall.datasets.glyphs.making import make_glyphs, split_groups

__all__ = [
    'SPLITS',
    'Face',
    'GlyphsError',
    'capitals',
    'faces_of',
    'find_faces',
    'kanji',
    'letters',
    'make_glyphs',
    'parts',
    'read_classes',
    'read_meta',
    'read_split',
    'split_groups',
    'write_folder',
]

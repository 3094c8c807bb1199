"""Draws glyphs, moves them a little, and tells which faces look alike."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mmkendall.datasets.glyphs.classes import GlyphsError
from mmkendall.datasets.glyphs.faces import NEEDS, Face

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 32
# Glyphs are drawn this many times as large and averaged down, so that a moved one stays smooth.
FINENESS = 4
# Pixels that the tallest glyph of a face, and the widest, may take of SIDE.
HEIGHT, WIDTH = 26, 28
# How far a jittered view is moved at most: pixels, degrees, share of the size. With less, a small
# student is so good by itself that there is little to distil.
SHIFT, ANGLE, SCALE = 3.0, 12.0, 0.2


def draw_face(face: Face, texts: Sequence[str]) -> list[Image]:
    """Each text in a face, white on black, :data:`FINENESS` times :data:`SIDE` wide and high.

    One size and one baseline serve all texts of a face, so that letters keep their proportions;
    each is centred in the width.

    Raises:
        GlyphsError: the face draws a text as nothing, two of them alike, or cannot be used.
        ImportError: Pillow is missing.
    """
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError as error:
        raise ImportError(NEEDS) from error

    def font(size: float) -> ImageFont.FreeTypeFont:
        # The basic layout is in every build of Pillow.
        return ImageFont.truetype(face.path, size, face.number, layout_engine=0)

    side = SIDE * FINENESS
    try:
        boxes = np.array([font(side).getbbox(text, anchor='ls') for text in texts])
        tall, wide = boxes[:, 3].max() - boxes[:, 1].min(), (boxes[:, 2] - boxes[:, 0]).max()
        if tall <= 0 or wide <= 0:
            raise GlyphsError('it draws nothing at all')
        fitting = font(side * FINENESS * min(HEIGHT / tall, WIDTH / wide))
        boxes = np.array([fitting.getbbox(text, anchor='ls') for text in texts])
    except OSError as error:
        raise GlyphsError(f"FreeType can't use it: {error}") from error
    baseline = (side - boxes[:, 3].max() - boxes[:, 1].min()) / 2
    drawn: dict[bytes, str] = {}
    images = []
    for text, (left, _, right, _) in zip(texts, boxes, strict=True):
        image = Image.new('L', (side, side))
        place = (round((side - left - right) / 2), round(baseline))
        ImageDraw.Draw(image).text(place, text, fill=255, font=fitting, anchor='ls')
        if image.getbbox() is None:
            raise GlyphsError(f'it draws {text} as nothing')
        other = drawn.setdefault(image.tobytes(), text)
        if other != text:
            raise GlyphsError(f'it draws {other} and {text} alike')
        images.append(image)
    return images


def plain(images: Sequence[Image]) -> np.ndarray:
    """Drawn images as they are: uint8 (N, SIDE, SIDE)."""
    return np.stack([np.asarray(image.reduce(FINENESS)) for image in images])


def jittered(images: Sequence[Image], num_views: int, seed: int, name: str) -> np.ndarray:
    """Views of drawn images, each shifted, turned and scaled: uint8 (N, views, SIDE, SIDE).

    Args:
        images: from :func:`draw_face`.
        num_views: of each.
        seed: of all faces.
        name: of this face; its views do not depend on which other faces there are.
    """
    from PIL.Image import Resampling, Transform

    side = SIDE * FINENESS
    generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
    moves = generator.uniform(-1, 1, (num_views, len(images), 4))
    views = np.empty((len(images), num_views, SIDE, SIDE), np.uint8)
    for view, row in enumerate(moves):
        for index, (image, (right, down, turn, growth)) in enumerate(
            zip(images, row, strict=True)
        ):
            # Pillow asks where each pixel of the outcome comes from, so this is the inverse move.
            angle, size = np.radians(ANGLE * turn), 1 + SCALE * growth
            matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
            matrix /= size
            centre = np.full(2, side / 2)
            offset = centre - matrix @ (centre + FINENESS * SHIFT * np.array([right, down]))
            data = (*matrix[0], offset[0], *matrix[1], offset[1])
            moved = image.transform(
                (side, side), Transform.AFFINE, data, resample=Resampling.BILINEAR
            )
            views[index, view] = moved.reduce(FINENESS)
    return views


def look_alikes(drawings: np.ndarray, families: Sequence[str], above: float) -> list[int]:
    """The number of the group of each face, from 0 in the order in which groups appear.

    Faces are of one group if they are of one family, or if their glyphs correlate above a bound,
    or if a chain of such faces joins them.

    Args:
        drawings: uint8 (faces, classes, SIDE, SIDE).
        families: the name of each face's family.
        above: the bound of Pearson's correlation over all pixels of all glyphs.
    """
    flat = drawings.reshape(len(drawings), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    names = np.array(families)
    joined = (flat @ flat.T > above) | (names[:, None] == names[None, :])
    groups = np.arange(len(drawings))
    while True:  # The lowest number of a neighbour spreads along each chain.
        lowest = np.where(joined, groups[None, :], len(groups)).min(axis=1)
        if (lowest == groups).all():
            break
        groups = lowest
    return np.unique(groups, return_inverse=True)[1].tolist()

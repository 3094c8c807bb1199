"""From faces and characters to the arrays of a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from mmkendall.datasets.glyphs.classes import GlyphsError, parts
from mmkendall.datasets.glyphs.drawing import draw_face, jittered, look_alikes, plain
from mmkendall.datasets.glyphs.faces import Face
from mmkendall.datasets.glyphs.files import SPLITS

# Of the faces; the rest is for the test.
SHARES = {'train': 0.3, 'val': 0.2, 'test': 0.5}
# Fewer look-alike groups than this cannot be split in three.
LEAST_GROUPS = 3


def make_glyphs(
    faces: Sequence[Face],
    classes: Sequence[str],
    transfer_classes: Sequence[str],
    num_views: int = 4,
    seed: int = 0,
    split_seed: int = 0,
    above: float = 0.97,
    per_group: int = 3,
    progress: Callable[[Iterable], Iterable] = iter,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of ``mmkendall.datasets.glyphs.files``, and what ``meta.json`` says of them.

    Args:
        faces: from which those are taken that draw all characters.
        classes: what an image shows.
        transfer_classes: what the images for transfer show; may be empty.
        num_views: jittered views of each image to train on; those to validate and to test have
            one. Defaults to 4.
        seed: of the jitter, 0 or more. Defaults to 0.
        split_seed: of which faces are taken of a group, and of which groups are for training,
            validation and test. Defaults to 0.
        above: glyph correlation from which faces look alike. Defaults to 0.97.
        per_group: faces that are taken of a group, 1 or more. Defaults to 3.
        progress: wraps the loops over faces, for a bar.

    Raises:
        GlyphsError: the faces that are left form fewer than three groups.
    """
    texts = (*classes, *transfer_classes)
    kept, drawings, left_out = [], [], {}
    seen: dict[bytes, str] = {}
    for face in progress(faces):
        name = f'{face.name} ({face.path.name})'
        lacking = face.lacks(texts)
        if lacking:
            more = f' and {len(lacking) - 8} more' if len(lacking) > 8 else ''
            left_out[name] = f'it has no glyph for {lacking[:8]}{more}'
            continue
        try:
            drawing = plain(draw_face(face, texts))
        except GlyphsError as error:
            left_out[name] = str(error)
            continue
        first = seen.setdefault(drawing.tobytes(), face.name)
        if first != face.name or any(face.name == other.name for other in kept):
            left_out[name] = f'it is the same face as another, {first}'
            continue
        kept.append(face)
        drawings.append(drawing[: len(classes)])
    groups = look_alikes(np.stack(drawings), [face.family for face in kept], above) if kept else []
    if len(set(groups)) < LEAST_GROUPS:
        raise GlyphsError(
            f'fonts must give {LEAST_GROUPS} groups of faces at least that do not look alike, for '
            f'train, val and test, got {len(set(groups))} of {len(kept)} faces that draw all '
            f'{len(texts)} characters, of {len(faces)} found: install more fonts, or name another '
            'folder'
        )
    taken = _take(groups, per_group, split_seed)
    for index in set(range(len(kept))) - set(taken):
        left_out[f'{kept[index].name} ({kept[index].path.name})'] = (
            f'{per_group} of its group are there'
        )
    split = split_groups([groups[index] for index in taken], split_seed)

    arrays: dict[str, list] = {}
    meta_faces: dict[str, list] = {part: [] for part in SHARES}
    for index in progress(taken):
        face, group = kept[index], groups[index]
        part = split[group]
        images = draw_face(face, texts)
        meta_faces[part].append(
            dict(family=face.family, style=face.style, file=face.path.name, group=group)
        )
        sides = {part: images[: len(classes)]}
        if transfer_classes and part != 'val':
            sides[f'transfer_{part}'] = images[len(classes) :]
        for name, some in sides.items():
            views = jittered(some, num_views if part == 'train' else 1, seed, f'{face.key} {name}')
            arrays.setdefault(name, []).append(views)
    meta = dict(
        classes=list(classes),
        transfer_classes=list(transfer_classes),
        parts={name: parts(name) for name in texts},
        faces=meta_faces,
        left_out=left_out,
        options=dict(
            num_views=num_views, seed=seed, split_seed=split_seed, above=above,
            per_group=per_group,
        ),
    )  # fmt: skip
    return {name: np.stack(arrays[name]) for name in SPLITS if name in arrays}, meta


def _take(groups: Sequence[int], per_group: int, seed: int) -> list[int]:
    """At most so many faces of each group, drawn with a seed, in their order."""
    order = np.random.default_rng([seed, 0]).permutation(len(groups)).tolist()
    counts: Counter = Counter()
    taken = []
    for index in order:
        counts[groups[index]] += 1
        if counts[groups[index]] <= per_group:
            taken.append(index)
    return sorted(taken)


def split_groups(groups: Sequence[int], seed: int) -> dict[int, str]:
    """The part of each group, such that the faces are shared out as ``SHARES`` says.

    Each group, in an order drawn with the seed, goes to the part that lacks most faces.

    Args:
        groups: the number of the group of each face, of three different groups at least.
        seed: of the order.
    """
    sizes = Counter(groups)
    lacking = {part: share * len(groups) for part, share in SHARES.items()}
    split = {}
    for group in np.random.default_rng([seed, 1]).permutation(sorted(sizes)).tolist():
        empty = [part for part in SHARES if part not in split.values()]
        # The last groups go to parts that have none yet.
        choice = empty if len(sizes) - len(split) <= len(empty) else list(SHARES)
        split[group] = max(choice, key=lacking.get)
        lacking[split[group]] -= sizes[group]
    return split

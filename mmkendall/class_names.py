"""Whether two sides that number the classes mean the same classes."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from mmkendall.warn_once import warn_once


class ClassNamesError(ValueError):
    """Two sides number the classes in different orders."""


def class_names(meta: Any) -> tuple[str, ...] | None:
    """The names of the classes in order, or None where nothing is said of them.

    Args:
        meta: ``metainfo`` of a dataset, or ``meta`` of a checkpoint, as mmengine's Runner
            (``dataset_meta.classes``) or mmcls 0.x (``CLASSES``) writes it. Anything else that a
            checkpoint holds in that place says nothing.
    """
    if not isinstance(meta, Mapping):
        return None
    of_dataset = meta.get('dataset_meta')
    if not isinstance(of_dataset, Mapping) or not of_dataset:
        of_dataset = meta
    names = of_dataset.get('classes') or meta.get('CLASSES')
    if isinstance(names, str) or not isinstance(names, Sequence) or not names:
        return None
    return tuple(map(str, names))


def names_checksum(names: Sequence[str] | None) -> int | None:
    """CRC-32 of class names in their order, or None of none."""
    return None if names is None else zlib.crc32('\n'.join(names).encode())


def compare_classes(
    first: str, names: Sequence[str] | None, second: str, others: Sequence[str] | None
) -> None:
    """Ends what would read the scores of one class as those of another.

    A class that both sides have must have the same number on both. Sides that share no name, or
    some, each in its place, may only spell them differently: that is a warning, once.

    Args:
        first: whose ``names`` these are, for the message.
        names: of the classes, in order; None if unknown, and then nothing is compared.
        second: likewise of ``others``.
        others: the other side's.

    Raises:
        ClassNamesError: a class has another number on the other side.
    """
    if names is None or others is None or tuple(names) == tuple(others):
        return
    # ImageNet has two cranes: a name that repeats says nothing about the order.
    places = [
        {name: place for place, name in enumerate(side) if list(side).count(name) == 1}
        if len(set(side)) < len(side)
        else {name: place for place, name in enumerate(side)}
        for side in (names, others)
    ]
    for name, place in places[0].items():
        other = places[1].get(name, place)
        if other != place:
            raise ClassNamesError(
                f'{first} and {second} number the classes differently: {name!r} is class {place} '
                f'of the first and class {other} of the second. Bring them into the same order'
            )
    place = next(
        (i for i, pair in enumerate(zip(names, others, strict=False)) if pair[0] != pair[1]),
        min(len(names), len(others)),
    )
    shown = [side[place] if place < len(side) else 'nothing' for side in (names, others)]
    warn_once(
        f'{first} and {second} name the classes differently, {len(names)} and {len(others)} of '
        f'them; class {place} is {shown[0]!r} and {shown[1]!r}. Make sure that they mean the same'
    )

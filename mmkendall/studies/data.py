"""The data of a study, looked at before its first training starts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmkendall.datasets.in_memory import InMemory
from mmkendall.registry import DATASETS
from mmkendall.studies.study import StudyError

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


class DataCheck:
    """Builds each dataset in memory once, so that what it refuses ends the study before it starts.

    Others may fetch or index their images when they are built, which is left to their training.
    """

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __call__(self, cfg: Config, what: str) -> None:
        """Looks at the data of a config.

        Args:
            cfg: a config.
            what: where it stands in the study.

        Raises:
            StudyError: a dataset has no data, is damaged, or has an option out of range.
        """
        for name in LOADERS:
            dataset = (cfg.get(name) or {}).get('dataset')
            key = json.dumps(dataset, sort_keys=True, default=repr)
            if dataset is None or key in self._seen:
                continue
            kind = DATASETS.get(dataset.get('type', ''))
            if isinstance(kind, type) and issubclass(kind, InMemory):
                try:
                    DATASETS.build(dataset)
                except (OSError, TypeError, ValueError) as error:
                    raise StudyError(f'{what}: {name}.dataset: {error}') from error
            self._seen.add(key)


def data_checksums(content: Any) -> Iterator[str]:
    """Of the ``meta.json`` in each folder of data that has one, as drawn glyphs do."""
    if isinstance(content, (list, tuple)):
        for each in content:
            yield from data_checksums(each)
    elif isinstance(content, dict):
        root = content.get('data_root')
        meta = Path(root) / 'meta.json' if isinstance(root, str) else None
        if meta is not None and meta.is_file():
            yield hashlib.sha256(meta.read_bytes()).hexdigest()
        for each in content.values():
            yield from data_checksums(each)

"""A hook for tests: every process writes what it lost at every iteration."""

from __future__ import annotations

import json
from pathlib import Path

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class RecordLosses(Hook):
    """Writes the losses of each iteration to ``losses-RANK.json`` in the work directory."""

    def before_train(self, runner) -> None:
        self.records = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.records.append({name: float(value) for name, value in outputs.items()})

    def after_train(self, runner) -> None:
        path = Path(runner.work_dir) / f'losses-{get_rank()}.json'
        path.write_text(json.dumps(self.records))

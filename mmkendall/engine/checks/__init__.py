"""The check before training: one place that knows what a config and a built model mean.

- :func:`check_distill_config` reads a config: its losses are built, what they read is looked up.
- :func:`build_runner` builds the run, and says in one sentence why it could not.
- :func:`train` trains, once the weights and the first batch have been looked at.
"""

from mmkendall.engine.checks.config import check_distill_config
from mmkendall.engine.checks.run import build_runner, explained, train

__all__ = ['build_runner', 'check_distill_config', 'explained', 'train']

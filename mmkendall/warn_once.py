"""A warning that is said once in a process."""

from __future__ import annotations

import functools
import logging

from mmengine.logging import print_log


@functools.cache
def warn_once(message: str) -> None:
    """Logs a warning, once however often it is asked to."""
    print_log(message, 'current', logging.WARNING)

"""What our tools say when something cannot be, or may not be meant."""

from __future__ import annotations

import functools
import logging

from mmengine.logging import print_log


class ConfigError(ValueError):
    """A config or an option that can't be run, with a message that says what to do."""


@functools.cache
def warn_once(message: str) -> None:
    """Logs a warning, once in a process however often it is asked to."""
    print_log(message, 'current', logging.WARNING)

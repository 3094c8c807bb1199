"""A run that is asked to stop by SIGTERM ends after its iteration, within a bounded time."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

# Slurm and torchrun send SIGKILL 30 seconds after SIGTERM, unless they are told otherwise.
GRACE = 20

_requested = False


class Terminated(BaseException):
    """SIGTERM, raised where the run is, as Python raises KeyboardInterrupt for Ctrl-C."""


def stop_is_requested() -> bool:
    """Whether SIGTERM came to this process."""
    return _requested


@contextmanager
def terminable(grace: float = GRACE) -> Iterator[None]:
    """Lets SIGTERM ask what is inside to stop, and ends it by a :class:`Terminated` if it doesn't.

    Args:
        grace: seconds until then. Defaults to 20.
    """
    global _requested

    def ask(number, frame):
        global _requested
        _requested = True
        signal.signal(signal.SIGALRM, end)
        signal.setitimer(signal.ITIMER_REAL, grace)

    def end(number, frame):
        raise Terminated

    _requested = False
    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield
    except Terminated:  # Also where another process was asked, and all agreed.
        _requested = True
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGTERM, before)

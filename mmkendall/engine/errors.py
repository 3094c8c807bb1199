"""What our tools say in one sentence when something cannot be."""

import errno

from mmkendall.class_names import ClassNamesError
from mmkendall.compat.safe_loading import UnreadableCheckpointError
from mmkendall.evaluation.metrics.kendall_tau import TeacherResultsError
from mmkendall.models.algorithms.loading import CheckpointError
from mmkendall.models.algorithms.teacher_logits import TeacherLogitsError


class ConfigError(ValueError):
    """A config or an option that can't be run, with a message that says what to do."""


# Each is an input that cannot be right: a tool prints the message and ends with status 2.
REFUSALS = (
    ConfigError,
    CheckpointError,
    ClassNamesError,
    TeacherLogitsError,
    TeacherResultsError,
    UnreadableCheckpointError,
)


def is_full_disk(error: BaseException) -> bool:
    """Whether there was no space, no quota, or a file that may not become larger."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return isinstance(error, OSError) and error.errno in full

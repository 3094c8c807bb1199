"""What our tools say in one sentence when something cannot be."""

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

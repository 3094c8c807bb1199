"""Teacher logits on disk: what the files are, who reads them, who writes them, and from what."""

from mmkendall.models.algorithms.teacher_logits.files import DTYPES, TeacherLogitsError, is_topk
from mmkendall.models.algorithms.teacher_logits.reader import TeacherLogits, check_unmixed
from mmkendall.models.algorithms.teacher_logits.table import (
    KINDS,
    WITH_ZEROS,
    ScoreTable,
    ScoreTableError,
    as_logits,
    read_table,
    table_fingerprint,
)
from mmkendall.models.algorithms.teacher_logits.writer import (
    TeacherLogitsWriter,
    check_teacher_classes,
)

__all__ = [
    'DTYPES',
    'KINDS',
    'WITH_ZEROS',
    'ScoreTable',
    'ScoreTableError',
    'TeacherLogits',
    'TeacherLogitsError',
    'TeacherLogitsWriter',
    'as_logits',
    'check_teacher_classes',
    'check_unmixed',
    'is_topk',
    'read_table',
    'table_fingerprint',
]

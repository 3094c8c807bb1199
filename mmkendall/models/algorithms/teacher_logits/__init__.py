"""Teacher logits on disk: what the files are, who reads them, who writes them."""

from mmkendall.models.algorithms.teacher_logits.files import DTYPES, TeacherLogitsError
from mmkendall.models.algorithms.teacher_logits.reader import TeacherLogits, check_unmixed
from mmkendall.models.algorithms.teacher_logits.writer import (
    TeacherLogitsWriter,
    check_teacher_classes,
)

__all__ = [
    'DTYPES',
    'TeacherLogits',
    'TeacherLogitsError',
    'TeacherLogitsWriter',
    'check_teacher_classes',
    'check_unmixed',
]

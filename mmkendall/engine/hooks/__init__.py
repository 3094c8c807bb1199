from mmkendall.engine.hooks.atomic_checkpoint import AtomicCheckpointHook
from mmkendall.engine.hooks.exact_resume import ExactResumeHook
from mmkendall.engine.hooks.finite_loss import FiniteLossHook, NonFiniteError
from mmkendall.engine.hooks.rank_weight_schedule import RankWeightSchedule
from mmkendall.engine.hooks.student_checkpoint import StudentCheckpointHook

__all__ = [
    'AtomicCheckpointHook',
    'ExactResumeHook',
    'FiniteLossHook',
    'NonFiniteError',
    'RankWeightSchedule',
    'StudentCheckpointHook',
]

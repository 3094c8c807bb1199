from mmkendall.engine.hooks.atomic_checkpoint import AtomicCheckpointHook
from mmkendall.engine.hooks.distill_diagnostics import DistillDiagnosticsHook
from mmkendall.engine.hooks.exact_resume import ExactResumeHook
from mmkendall.engine.hooks.finite_loss import FiniteLossHook, NonFiniteError
from mmkendall.engine.hooks.rank_weight_schedule import RankWeightSchedule
from mmkendall.engine.hooks.student_checkpoint import StudentCheckpointHook

__all__ = [
    'AtomicCheckpointHook',
    'DistillDiagnosticsHook',
    'ExactResumeHook',
    'FiniteLossHook',
    'NonFiniteError',
    'RankWeightSchedule',
    'StudentCheckpointHook',
]

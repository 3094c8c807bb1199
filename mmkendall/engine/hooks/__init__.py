from mmkendall.engine.hooks.rank_weight_schedule import RankWeightSchedule
from mmkendall.engine.hooks.student_checkpoint import StudentCheckpointHook

__all__ = ['RankWeightSchedule', 'StudentCheckpointHook']

from mmkendall.engine.hooks.distill_diagnostics import DistillDiagnosticsHook
from mmkendall.engine.hooks.rank_weight_schedule import RankWeightSchedule

__all__ = ['DistillDiagnosticsHook', 'RankWeightSchedule']

from mmkendall.engine.hooks.rank_weight_schedule import RankWeightSchedule

__all__ = ['RankWeightSchedule']

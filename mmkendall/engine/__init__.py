"""Hooks and loops that a config can name, and what the tools do with a config."""

from mmkendall.engine.hooks import RankWeightSchedule

__all__ = ['RankWeightSchedule']

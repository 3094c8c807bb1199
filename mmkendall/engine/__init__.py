"""Hooks and loops that a config can name, and what the tools do with a config."""

from mmkendall.engine.hooks import RankWeightSchedule
from mmkendall.engine.loops import DistillValLoop

__all__ = ['DistillValLoop', 'RankWeightSchedule']

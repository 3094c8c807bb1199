"""Hooks and loops that a config can name, and what the tools do with a config."""

from mmkendall.engine.hooks import (
    AtomicCheckpointHook,
    DistillDiagnosticsHook,
    ExactResumeHook,
    FiniteLossHook,
    RankWeightSchedule,
    StudentCheckpointHook,
)
from mmkendall.engine.loops import DistillValLoop

__all__ = [
    'AtomicCheckpointHook',
    'DistillDiagnosticsHook',
    'DistillValLoop',
    'ExactResumeHook',
    'FiniteLossHook',
    'RankWeightSchedule',
    'StudentCheckpointHook',
]
